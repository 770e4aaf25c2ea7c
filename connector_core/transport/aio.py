"""A server through `grpc.aio` that opens anew when grpc.aio's own has ended by itself."""

import asyncio
import logging
from collections.abc import Sequence

import grpc.aio

_log = logging.getLogger(__name__)

_EVERY = 0.25
"""Seconds between two looks at whether it still serves: `grpc.aio` tells nobody else that it does not."""

_TRIES, _PAUSE = 40, 0.05
"""Retries, and seconds between them, of binding a port again: the server that has ended may still hold it."""

_FOR_CALLS = 86_400.0
"""Seconds in which calls of a server that has ended may finish; they have deadlines of their own."""


class AioServer:
    """`grpc.aio`'s server, which one request can end: one whose path is not UTF-8, for one.

    Its loop for new calls does not survive an exception of its own; it closes the port, and calls in flight go on. Then another
    server takes its place, with the same handlers and addresses.

    Args:
        options: gRPC's own.
        interceptors: wrap the handler of each call; the first is the outermost.
    """

    def __init__(
        self,
        options: Sequence[tuple[str, int]] = (),
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._options = options
        self._interceptors = interceptors
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._addresses: list[str] = []
        self._serving = self._open()
        self._former: dict[grpc.aio.Server, asyncio.Task[None]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve these as well."""
        self._handlers.extend(handlers)
        self._serving.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Do nothing: generated code adds the same handlers as generic ones."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without TLS, and return the port.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        port: int = self._serving.add_insecure_port(address)
        host = address.rpartition(":")[0]
        self._addresses.append(f"{host}:{port}")
        return port

    async def start(self) -> None:
        """Serve."""
        await self._serving.start()
        self._watch = asyncio.create_task(self._keep_serving())

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, let those in flight finish within `grace` seconds, cancel the others, and end."""
        if self._watch is not None:
            self._watch.cancel()
        for waiting in self._former.values():
            waiting.cancel()
        # Each once: grpc.aio crashes when two stops of one server cross.
        await asyncio.gather(*(server.stop(grace) for server in {self._serving, *self._former}))

    async def ended(self) -> Exception:
        """Return, with the reason, when nothing is served any more although nobody stopped the server."""
        return await asyncio.shield(self._ended)

    def _open(self) -> grpc.aio.Server:
        server: grpc.aio.Server = grpc.aio.server(options=self._options, interceptors=self._interceptors)
        server.add_generic_rpc_handlers(tuple(self._handlers))
        return server

    async def _keep_serving(self) -> None:
        while True:
            reason = await self._until_it_ends()
            if reason is None:
                return
            _log.error("grpc.aio server ended by itself; restarting it, calls in flight continue (%r)", reason)
            self._former[self._serving] = asyncio.create_task(self._finish(self._serving))
            self._serving = self._open()
            failure = await self._bind_again()
            await (
                self._serving.start()
            )  # in any case: one that was not started cannot be stopped, and crashes when it is freed
            if failure is not None:
                self._ended.set_result(failure)
                return

    async def _finish(self, former: grpc.aio.Server) -> None:
        await former.stop(_FOR_CALLS)
        del self._former[former]

    async def _until_it_ends(self) -> Exception | None:
        """Return what ended it, or `None` where it was stopped."""
        try:
            while await self._serving.wait_for_termination(_EVERY):
                pass
        except Exception as error:  # noqa: BLE001 - whatever it was
            return error
        return None

    async def _bind_again(self) -> Exception | None:
        """Return why not, where an address cannot be bound any more."""
        for address in self._addresses:
            for tries_left in reversed(range(_TRIES)):
                try:
                    self._serving.add_insecure_port(address)
                except RuntimeError as error:
                    if not tries_left:
                        return error
                    await asyncio.sleep(_PAUSE)
                else:
                    break
        return None
