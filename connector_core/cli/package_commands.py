"""The commands about plugins' packages, and their options."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector_core.cli.options import Config, Modules, Prefer

if TYPE_CHECKING:
    from connector_core.cli.packages.change import Manner

Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the environment as it has become, even if plugins fail or clash in it.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print what the installer prints, and tracebacks of what fails.")
]


def new(
    name: Annotated[
        str, typer.Argument(help="The plugin's name, such as 'warehouse': the package is connector-plugin-NAME.")
    ],
    task_type: Annotated[
        str | None, typer.Option(help="The task type that it serves. [default: the name]", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="async|sync",
            help="'async' for jobs that go on by themselves, 'sync' for answers at once. [default: async]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder to make the package's folder in.")] = Path(),
) -> int:
    """Write a new plugin package that works from the start, with tests.

    At a terminal, what is not given is asked for. Needs cookiecutter: pip install "connector-core[new]"
    """
    from connector_core.cli.new import write_plugin

    return write_plugin(name, task_type, kind, output)


def install(
    requirements: Annotated[
        list[str] | None,
        typer.Argument(
            help="What pip takes: names, with extras and versions, wheels, folders, URLs. "
            "After `--`, options for the installer.",
            show_default=False,
        ),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Take newer versions of what is named, if there are any.")
    ] = False,
    editable: Annotated[
        list[str] | None,
        typer.Option("--editable", "-e", metavar="FOLDER", help="A folder to use as it stands, for its author."),
    ] = None,
    keep: Keep = False,
    verbose: Verbose = False,
    modules: Modules = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Install plugins into the environment of this host, and see whether they load.

    For example: connector-host install connector-plugin-duckdb, or connector-host install ./my-plugin -- --no-index

    All plugins are loaded before and after, as a host started here with these options would. If a new one fails to
    load, or one that worked does not any more, the environment is put back as it was and the exit code is 1. Installs with
    uv where there is one, else with pip.
    """
    from connector_core.cli.packages.install import install as install_now
    from connector_core.cli.packages.installer import Wanted

    given = requirements or []
    wished = list(takewhile(lambda one: not one.startswith("-"), given))
    options = given[len(wished) :]
    if not (wished or editable or options):
        raise typer.BadParameter("name what to install")
    wanted = Wanted(wished, editable or (), options, upgrade)
    return install_now(wanted, _manner(keep, verbose, modules, prefer, config))


def uninstall(
    names: Annotated[list[str], typer.Argument(help="Plugins, or their distributions.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep: Keep = False,
    verbose: Verbose = False,
    modules: Modules = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Uninstall plugins from the environment of this host; what they required stays.

    The environment is put back, and the exit code is 1, if a plugin that stays would no longer work.
    """
    from connector_core.cli.packages.uninstall import uninstall as uninstall_now

    return uninstall_now(names, _manner(keep, verbose, modules, prefer, config), sure=yes)


def _manner(
    keep: bool, verbose: bool, modules: list[str] | None, prefer: list[str] | None, config: Path | None
) -> "Manner":
    from connector_core.cli.packages.change import Manner
    from connector_core.cli.packages.progress import Progress

    options = [*_repeated("--modules", modules), *_repeated("--prefer", prefer)]
    options += ["--config", str(config)] if config else []
    return Manner(Progress(is_verbose=verbose), keep, verbose, options)


def _repeated(option: str, values: Sequence[str] | None) -> Iterator[str]:
    for value in values or ():
        yield from (option, value)
