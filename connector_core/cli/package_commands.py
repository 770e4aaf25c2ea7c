"""The commands about plugins' packages."""

from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connector_core.cli.options import path, takes_settings

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
        str,
        typer.Argument(
            metavar="NAME", help="The plugin's name, such as 'warehouse': the package is connector-plugin-NAME."
        ),
    ],
    task_type: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The task type that it serves. [default: the name]")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="async|sync",
            help="'async' for jobs that go on by themselves, 'sync' for answers at once. [default: async]",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="PATH", callback=path, help="The folder to make the package's folder in.")
    ] = Path(),
) -> int:
    """Write a new plugin package that works from the start, with tests.

    At a terminal, what is not given is asked for. Needs cookiecutter: pip install "connector-core[new]"
    """
    from connector_core.cli.new import write_plugin

    return write_plugin(name, task_type, kind, output)


@takes_settings("modules", "prefer")
def install(
    requirements: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REQUIREMENTS",
            help="What pip takes: names, with extras and versions, wheels, folders, URLs. "
            "After `--`, options for the installer.",
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
    **given: Any,
) -> int:
    """Install plugins into the environment of this host, and see whether they load.

    For example: connector-host install connector-plugin-duckdb, or connector-host install ./my-plugin -- --no-index

    All plugins are loaded before and after, as a host started here with these options would. If a new one fails to
    load, or one that worked does not any more, the environment is put back as it was and the exit code is 1. Installs with
    uv where there is one, else with pip.
    """
    from connector_core.cli.packages.install import install as install_now
    from connector_core.cli.packages.installer import Wanted

    requested = requirements or []
    names = list(takewhile(lambda one: not one.startswith("-"), requested))
    options = requested[len(names) :]
    if not (names or editable or options):
        raise typer.BadParameter("name what to install")
    return install_now(Wanted(names, editable or (), options, upgrade), _manner(keep, verbose, given))


@takes_settings("modules", "prefer")
def uninstall(
    names: Annotated[list[str], typer.Argument(metavar="NAMES", help="Plugins, or their distributions.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep: Keep = False,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Uninstall plugins from the environment of this host; what they required stays.

    The environment is put back, and the exit code is 1, if a plugin that stays would no longer work.
    """
    from connector_core.cli.packages.uninstall import uninstall as uninstall_now

    return uninstall_now(names, _manner(keep, verbose, given), sure=yes)


def _manner(keep: bool, verbose: bool, given: Mapping[str, Any]) -> "Manner":
    from connector_core.cli.packages.change import Manner
    from connector_core.cli.packages.progress import Progress

    return Manner(Progress(is_verbose=verbose), keep, verbose, list(_retyped(given)))


def _retyped(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of settings as they are typed, for a host of another process."""
    for name in ("modules", "prefer"):
        for value in given[name] or ():
            yield from (f"--{name}", value)
    if given["config"]:
        yield from ("--config", str(given["config"]))
