"""`connector-host serve`: load, report, serve, or have that done by a child that is started again (`--reload`)."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connector_core.cli import exit_at_once, signals
from connector_core.cli.loading import find_one_of_each, loaded
from connector_core.cli.logs import loggers_of, open_log
from connector_core.cli.options import ALL_FLAGS, given_settings, takes_settings
from connector_core.cli.reload.handover import Handover
from connector_core.cli.report import print_failures, print_serving, reach_of
from connector_core.hostlog import HostLog
from connector_core.invocation.loops import loop_factory
from connector_core.plugins import PluginLoadResult, build_registry, check_required
from connector_core.ports import Address
from connector_core.registry import ConnectorRegistry
from connector_core.secrets import SecretSource, use_source
from connector_core.server import ConnectorServer
from connector_core.server import serve as run_server
from connector_core.settings import Settings

if TYPE_CHECKING:
    from connector_core.locations.locations import Locations

_log = logging.getLogger("connector_core")


@takes_settings(*ALL_FLAGS)
def serve(
    *,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a plugin's source or the settings file changes.")
    ] = False,
    **given: Any,
) -> int:
    """Load the installed plugins and serve their connectors until SIGTERM.

    Every option is also an environment variable, CONNECTOR_HOST__PORT for --port and so on, and a key of
    connector-host.toml: the option goes before the variable, the variable before the file. All but --reload, which is
    for authors: it needs watchfiles, pip install "connector-core[reload]"
    """
    read_settings = partial(given_settings, given)
    if reload:
        return _serve_and_reload(read_settings, given["config"])
    signals.expect()
    hung = serve_until_stopped(read_settings(), read_settings)
    if hung:
        # Threads that plugin code hangs in must not keep an exit waiting, nor run while the interpreter comes down.
        exit_at_once(0)
    signals.end_soon(0)
    return 0


def _serve_and_reload(read_settings: Callable[[], Settings], config: Path | None) -> int:
    if find_spec("watchfiles") is None:
        print('connector-host: --reload needs watchfiles: pip install "connector-core[reload]"', file=sys.stderr)
        return 1
    from connector_core.cli.reload.supervisor import supervise

    return supervise([one for one in sys.argv[1:] if one != "--reload"], read_settings, config)


def serve_until_stopped(settings: Settings, read_settings: Callable[[], Settings]) -> bool:
    """Serve until a signal or the settings' timeout; return whether plugin code still hangs in a thread.

    Args:
        settings: the host's.
        read_settings: reads them again, when a signal asks for it.

    Raises:
        SetupError: the host cannot be put together as asked.
    """
    secrets = settings.secrets.source()
    use_source(secrets)  # for what plugins do while they are loaded
    with open_log(settings, secrets) as log, ExitStack() as stack:
        # The log comes first: what is found and loaded is told in it.
        result, locations = stack.enter_context(loaded(find_one_of_each(settings), settings, secrets))
        log.hold_to_levels(loggers_of(result))
        for warning in result.warnings:
            _log.warning(warning)
        for broken in result.broken:
            _log.warning("broken distribution %s", broken)
        check_required(result, settings)
        registry = build_registry(result, settings.prefer)
        signals.unblock()
        gc.freeze()  # what start-up made stays for good: later collections need not look at it
        gc.enable()
        with asyncio.Runner(loop_factory=loop_factory(settings.loop)) as runner:
            taken = signals.Signals(settings, read_settings, log.set_levels)
            return runner.run(_serve(registry, settings, result, locations, secrets, log, taken))


async def _serve(
    registry: ConnectorRegistry,
    settings: Settings,
    result: PluginLoadResult,
    locations: "Locations | None",
    secrets: SecretSource,
    log: HostLog,
    taken: signals.Signals,
) -> bool:
    taken.take(asyncio.get_running_loop())
    handover = Handover.taken()
    handover.end_with_parent()
    server = ConnectorServer(
        registry,
        settings,
        result,
        http_sockets=handover.http_sockets(),
        grpc_address=Address("127.0.0.1", 0) if handover.grpc_at else None,
        secrets=secrets,
        locations=locations,
    )

    def on_started() -> None:
        log.hold_to_levels()
        if server.tracing is not None:
            log.add_fields(server.tracing.current_ids)
        log.flush()  # what went wrong at the start stands above the table
        _announce(server, handover)
        handover.tell(server.grpc_at.number, is_whole=not result.failed and not server.not_started)

    server.metrics.log_lines_dropped.set_function(lambda: log.dropped)
    await run_server(server, on_started)
    return server.invoker.abandoned > 0 or any(plugin.hangs for plugin in result.failed)


def _announce(server: ConnectorServer, handover: Handover) -> None:
    """Print what is served and where, or what is not after a restart; a host whose stdout is full or closed serves on."""
    try:
        if handover.is_again:
            print_failures(server.plugins, server.not_started, sys.stdout)
            sys.stdout.flush()
        else:
            _print_announcement(server, handover.grpc_at or reach_of(server.grpc_at))
    except OSError as error:
        _log.warning("the table of plugins cannot be printed on stdout (%s); serving goes on", error.strerror or error)
        # What is left of it in buffers must not fail at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _print_announcement(server: ConnectorServer, grpc_at: str) -> None:
    print_serving(server.plugins, server.registry, server.not_started, sys.stdout)
    print(f"gRPC serves on {grpc_at}.")
    print(f"Engines: {_engines(server.generations.without_v2)}.")
    print(server.memory.guarantees)
    where = server.http_at.url
    if server.settings.console:
        print(f"The console is at {where}/ (--no-console turns it off).")
    if server.settings.gateway == "tasks":
        print(f"Tasks can be run as JSON ({where}/openapi.json) with a token of {server.settings.gateway_token_file}.")
    print(f"Metrics are at {where}/metrics.", flush=True)


def _engines(without_v2: str) -> str:
    both = "those of the 1.x line (flyteidl) and of the 2.x line (flyteidl2)"
    return f"those of the 1.x line (flyteidl); not of the 2.x line: {without_v2}" if without_v2 else both
