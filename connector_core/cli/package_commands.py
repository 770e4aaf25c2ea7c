"""The commands about plugins' packages, and their options."""

from pathlib import Path
from typing import Annotated

import typer


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
