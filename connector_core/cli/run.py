"""`connector-host run`, and `get`, `logs` and `delete` on a job that was detached from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_core.cli.options import CHOICE, AsJson, given_settings, path, seconds, takes_settings

_GRPC_VERBOSITY = "GRPC_VERBOSITY"

Handle = Annotated[str, typer.Argument(metavar="HANDLE", help="What `run --detach` printed.")]
Endpoint = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A host that serves; else the plugins installed here are used."),
]
HandlesEndpoint = Annotated[
    str | None, typer.Option("--endpoint", metavar="HOST:PORT", help="A host, if not the one of the handle.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print the log of the plugins used here, and no live view.")]
Interval = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=seconds, help="Seconds between two looks at the job, at the most."),
]


@takes_settings(*CHOICE)
def run_task(
    task_type: Annotated[
        str | None, typer.Argument(metavar="TASK_TYPE", help="The task type: NAME, or NAME@VERSION.")
    ] = None,
    argv: Annotated[list[str] | None, typer.Argument(metavar="ARGV", help="A container's command, after `--`.")] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="An input: JSON where it parses, else text; NAME=@FILE reads it from a file.",
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PLACE", help="An input that is a file or folder: a path or URI."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="PATH", callback=path, help="A file of inputs: a JSON object, or a LiteralMap (.pb)."),
    ] = None,
    sql: Annotated[str | None, typer.Option(metavar="TEXT", help="The task's SQL; @FILE reads it from a file.")] = None,
    custom: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The task's `custom`, a JSON object; @FILE reads it.")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=path,
            help="A task as flytekit serialises it: TaskTemplate or TaskSpec, .pb or .json.",
        ),
    ] = None,
    output_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The URI or folder under which large outputs are written. [default: a new temporary folder]",
        ),
    ] = None,
    endpoint: Endpoint = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the job, print its handle and leave it alone.")
    ] = False,
    interval: Interval = 1.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Run a task without a Flyte cluster, on the plugins installed here or on a host that serves.

    For example: connector-host run sleep --input seconds=3, or connector-host run process -- /bin/echo hello

    What the task gives goes to stdout, everything else to stderr. Ctrl-C asks the connector to delete the job and waits
    for that; a second one gives up waiting. The exit code is 0 only for SUCCEEDED; 1 for any other end, 2 for what
    cannot be asked, 130 after Ctrl-C.
    """
    with _quiet_grpc():
        from connector_core.cli.running import task_runs as tasks

    order = tasks.Order(task_type, argv or (), input_ or (), file or (), inputs, sql, custom, template)
    settings = partial(given_settings, given)
    manner = tasks.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return tasks.run_task(order, manner, output_prefix=output_prefix, detach=detach)


@takes_settings(*CHOICE)
def get_job(
    handle: Handle,
    endpoint: HandlesEndpoint = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job to its end, as `run` does.")] = False,
    interval: Interval = 1.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Show how a job of `run --detach` is doing, and its outputs when it is over.

    The exit code is 0 where that could be found out; with --wait, it is that of `run`.
    """
    with _quiet_grpc():
        from connector_core.cli.running import task_runs as tasks

    settings = partial(given_settings, given)
    manner = tasks.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return tasks.show_job(handle, manner, wait=wait)


@takes_settings(*CHOICE)
def show_logs(
    handle: Handle,
    endpoint: HandlesEndpoint = None,
    follow: Annotated[bool, typer.Option("--follow", help="Follow until the job ends.")] = False,
    interval: Interval = 1.0,
    verbose: Verbose = False,
    **given: Any,
) -> int:
    """Print the log of a job of `run --detach`, where its connector has logs."""
    with _quiet_grpc():
        from connector_core.cli.running import task_runs as tasks

    settings = partial(given_settings, given)
    return tasks.show_logs(handle, tasks.Manner(endpoint, settings, verbose=verbose, interval=interval), follow=follow)


@takes_settings(*CHOICE)
def delete_job(handle: Handle, endpoint: HandlesEndpoint = None, verbose: Verbose = False, **given: Any) -> int:
    """Ask the connector to delete a job of `run --detach`, and wait until it says how that went.

    A job that is over already, or gone, is not an error.
    """
    with _quiet_grpc():
        from connector_core.cli.running import task_runs as tasks

    return tasks.delete_job(handle, tasks.Manner(endpoint, partial(given_settings, given), verbose=verbose))


@contextmanager
def _quiet_grpc() -> Iterator[None]:
    """Have gRPC's core, which reads this when it is imported, print nothing: its lines tell of connections, not of tasks."""
    if _GRPC_VERBOSITY in os.environ:
        yield
        return
    os.environ[_GRPC_VERBOSITY] = "NONE"
    try:
        yield
    finally:
        del os.environ[_GRPC_VERBOSITY]  # not for the programs that plugins start
