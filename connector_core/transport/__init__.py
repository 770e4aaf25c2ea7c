"""gRPC's server, on its core by itself or through `grpc.aio`, which costs more than all that the host does."""

import logging
from collections.abc import Sequence
from typing import Protocol

import grpc.aio

from connector_core.errors import SettingsError

_log = logging.getLogger(__name__)

_VERSION: str = grpc.__version__  # type: ignore[attr-defined] # it is there, and in no stub
_NEWEST_TRIED = (1, 85)
"""The version of grpcio whose core the tests have been run on; a newer one is tried at start-up."""


class GrpcServer(Protocol):
    """The interface of a gRPC server that the host uses."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve these as well."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without TLS, and return the port."""

    async def start(self) -> None:
        """Serve."""

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, let those in flight finish within `grace` seconds, cancel the others, and end."""

    async def ended(self) -> Exception:
        """Return, with the reason, when nothing is served any more although nobody stopped the server."""


async def open_server(
    choice: str,
    options: Sequence[tuple[str, int]] = (),
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    request_seconds: float | None = None,
) -> GrpcServer:
    """Return a server that is yet to be started.

    Args:
        choice: `core`, `aio`, or `auto`: core where the installed grpcio has what that takes.
        options: gRPC's own.
        interceptors: wrap the handler of each call; the first is the outermost.
        request_seconds: in which a call's request has to arrive, on core; `None` for no bound.

    Raises:
        SettingsError: it is to be core, and cannot be.
    """
    if choice != "aio":
        problem = await _problem_of_core()
        if not problem:
            from connector_core.transport.core_server import CoreServer

            return CoreServer(options, interceptors, request_seconds)
        newest = ".".join(map(str, _NEWEST_TRIED))
        state = f"not tested with grpcio {_VERSION} (up to {newest})"
        if _version() <= _NEWEST_TRIED:
            state = f"not available with grpcio {_VERSION}"
        if choice == "core":
            raise SettingsError(f"transport is core: {state} ({problem}); choose auto or aio, or update connector-core")
        _log.warning("fast transport: %s; using grpc.aio, which is slower (%s)", state, problem)
    from connector_core.transport.aio import AioServer

    return AioServer(options, interceptors)


async def _problem_of_core() -> str:
    """Return why gRPC's core cannot be served on; the modules that do are the only ones that know its private face."""
    try:
        from connector_core.transport.probe import probe
    except (ImportError, AttributeError) as error:
        return str(error)
    return "" if _version() <= _NEWEST_TRIED else await probe()


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in _VERSION.split(".")[:2])
