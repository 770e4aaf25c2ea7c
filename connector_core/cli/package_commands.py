"""The commands about plugins' packages, and their options."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector_core.cli.options import CONFIG, MODULES, PREFER, argument, command, flag, option, path

if TYPE_CHECKING:
    from connector_core.cli.packages.change import Manner

KEEP = flag("--keep", help="Leave the environment as it has become, even if plugins fail or clash in it.")
VERBOSE = flag("--verbose", help="Print what the installer prints, and tracebacks of what fails.")


@command(
    "new",
    argument("name", help="The plugin's name, such as 'warehouse': the package is connector-plugin-NAME."),
    option("--task-type", help="The task type that it serves. [default: the name]"),
    option(
        "--kind",
        metavar="async|sync",
        help="'async' for jobs that go on by themselves, 'sync' for answers at once. [default: async]",
    ),
    option("--output", type=path(), default=".", show_default=True, help="The folder to make the package's folder in."),
)
def new(name: str, task_type: str | None, kind: str | None, output: Path) -> int:
    """Write a new plugin package that works from the start, with tests.

    At a terminal, what is not given is asked for. Needs cookiecutter: pip install "connector-core[new]"
    """
    from connector_core.cli.new import write_plugin

    return write_plugin(name, task_type, kind, output)


@command(
    "install",
    argument(
        "requirements",
        help="What pip takes: names, with extras and versions, wheels, folders, URLs. "
        "After `--`, options for the installer.",
        nargs=-1,
    ),
    flag("--upgrade", "-U", help="Take newer versions of what is named, if there are any."),
    option(
        "--editable",
        "-e",
        metavar="FOLDER",
        multiple=True,
        help="A folder to use as it stands, for its author.",
    ),
    KEEP,
    VERBOSE,
    MODULES,
    PREFER,
    CONFIG,
)
def install(
    requirements: tuple[str, ...], upgrade: bool, editable: tuple[str, ...], keep: bool, verbose: bool, **choice: Any
) -> int:
    """Install plugins into the environment of this host, and see whether they load.

    For example: connector-host install connector-plugin-duckdb, or connector-host install ./my-plugin -- --no-index

    All plugins are loaded before and after, as a host started here with these options would. If a new one fails to
    load, or one that worked does not any more, the environment is put back as it was and the exit code is 1. Installs with
    uv where there is one, else with pip.
    """
    from connector_core.cli.packages.install import install as install_now
    from connector_core.cli.packages.installer import Wanted

    wished = list(takewhile(lambda one: not one.startswith("-"), requirements))
    options = requirements[len(wished) :]
    if not (wished or editable or options):
        raise click.BadParameter("name what to install")
    wanted = Wanted(wished, editable, options, upgrade)
    return install_now(wanted, _manner(keep, verbose, **choice))


@command(
    "uninstall",
    argument("names", help="Plugins, or their distributions.", nargs=-1, required=True),
    flag("--yes", "-y", help="Do not ask."),
    KEEP,
    VERBOSE,
    MODULES,
    PREFER,
    CONFIG,
)
def uninstall(names: tuple[str, ...], yes: bool, keep: bool, verbose: bool, **choice: Any) -> int:
    """Uninstall plugins from the environment of this host; what they required stays.

    The environment is put back, and the exit code is 1, if a plugin that stays would no longer work.
    """
    from connector_core.cli.packages.uninstall import uninstall as uninstall_now

    return uninstall_now(names, _manner(keep, verbose, **choice), sure=yes)


def _manner(keep: bool, verbose: bool, modules: Sequence[str], prefer: Sequence[str], config: Path | None) -> "Manner":
    from connector_core.cli.packages.change import Manner
    from connector_core.cli.packages.progress import Progress

    options = [*_repeated("--modules", modules), *_repeated("--prefer", prefer)]
    options += ["--config", str(config)] if config else []
    return Manner(Progress(is_verbose=verbose), keep, verbose, options)


def _repeated(option: str, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from (option, value)
