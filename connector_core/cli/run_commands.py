"""The commands that run tasks, and their options."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from connector_core.cli.options import AS_JSON, CHOICE, argument, command, flag, option, path, plugin_settings

HANDLE = argument("handle", help="What `run --detach` printed.")
ENDPOINT = option(
    "--endpoint", metavar="HOST:PORT", help="A host that serves; else the plugins installed here are used."
)
HANDLES_ENDPOINT = option("--endpoint", metavar="HOST:PORT", help="A host, if not the one of the handle.")
VERBOSE = flag("--verbose", help="Print the log of the plugins used here, and no live view.")
INTERVAL = option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two looks at the job, at the most.",
)


@command(
    "run",
    argument("task_type", help="The task type: NAME, or NAME@VERSION.", required=False),
    argument("argv", help="A container's command, after `--`.", nargs=-1),
    option(
        "--input",
        "input_",
        metavar="NAME=VALUE",
        multiple=True,
        help="An input: JSON where it parses, else text; NAME=@FILE reads it from a file.",
    ),
    option("--file", metavar="NAME=PLACE", multiple=True, help="An input that is a file or folder: a path or URI."),
    option("--inputs", type=path(), help="A file of inputs: a JSON object, or a LiteralMap (.pb)."),
    option("--sql", help="The task's SQL; @FILE reads it from a file."),
    option("--custom", help="The task's `custom`, a JSON object; @FILE reads it."),
    option("--template", type=path(), help="A task as flytekit serialises it: TaskTemplate or TaskSpec, .pb or .json."),
    option(
        "--output-prefix",
        help="The URI or folder under which large outputs are written. [default: a new temporary folder]",
    ),
    ENDPOINT,
    flag("--detach", help="Start the job, print its handle and leave it alone."),
    INTERVAL,
    AS_JSON,
    VERBOSE,
    *CHOICE,
)
def run_task(
    task_type: str | None,
    argv: tuple[str, ...],
    input_: tuple[str, ...],
    file: tuple[str, ...],
    inputs: Path | None,
    sql: str | None,
    custom: str | None,
    template: Path | None,
    output_prefix: str | None,
    endpoint: str | None,
    detach: bool,
    interval: float,
    as_json: bool,
    verbose: bool,
    **choice: Any,
) -> int:
    """Run a task without a Flyte cluster, on the plugins installed here or on a host that serves.

    For example: connector-host run sleep --input seconds=3, or connector-host run process -- /bin/echo hello

    What the task gives goes to stdout, everything else to stderr. Ctrl-C asks the connector to delete the job and waits
    for that; a second one gives up waiting. The exit code is 0 only for SUCCEEDED; 1 for any other end, 2 for what
    cannot be asked, 130 after Ctrl-C.
    """
    from connector_core.cli import run

    order = run.Order(task_type, argv, input_, file, inputs, sql, custom, template)
    settings = partial(plugin_settings, **choice)
    manner = run.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return run.run_task(order, manner, output_prefix=output_prefix, detach=detach)


@command(
    "get",
    HANDLE,
    HANDLES_ENDPOINT,
    flag("--wait", help="Watch the job to its end, as `run` does."),
    INTERVAL,
    AS_JSON,
    VERBOSE,
    *CHOICE,
)
def get_job(
    handle: str, endpoint: str | None, wait: bool, interval: float, as_json: bool, verbose: bool, **choice: Any
) -> int:
    """Show how a job of `run --detach` is doing, and its outputs when it is over.

    The exit code is 0 where that could be found out; with --wait, it is that of `run`.
    """
    from connector_core.cli import run

    settings = partial(plugin_settings, **choice)
    manner = run.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return run.show_job(handle, manner, wait=wait)


@command(
    "logs",
    HANDLE,
    HANDLES_ENDPOINT,
    flag("--follow", help="Go on until the job is over."),
    INTERVAL,
    VERBOSE,
    *CHOICE,
)
def show_logs(handle: str, endpoint: str | None, follow: bool, interval: float, verbose: bool, **choice: Any) -> int:
    """Print the log of a job of `run --detach`, where its connector has logs."""
    from connector_core.cli import run

    settings = partial(plugin_settings, **choice)
    return run.show_logs(handle, run.Manner(endpoint, settings, verbose=verbose, interval=interval), follow=follow)


@command("delete", HANDLE, HANDLES_ENDPOINT, VERBOSE, *CHOICE)
def delete_job(handle: str, endpoint: str | None, verbose: bool, **choice: Any) -> int:
    """Ask the connector to delete a job of `run --detach`, and wait until it says how that went.

    A job that is over already, or gone, is no error.
    """
    from connector_core.cli import run

    settings = partial(plugin_settings, **choice)
    return run.delete_job(handle, run.Manner(endpoint, settings, verbose=verbose))
