"""A gRPC server whose calls run on the loop that made it."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import grpc.aio
from grpc._cython.cygrpc import Server

from connector_core.transport.arrivals import Arrivals
from connector_core.transport.calls import Call, CallDetails, Common, shown
from connector_core.transport.completions import Completions
from connector_core.transport.held_statuses import HeldStatuses
from connector_core.transport.methods import Method, prepare
from connector_core.transport.sending import Outbox

_READY = 8
"""Calls that core may bring before the loop has come to ask for more."""


class CoreServer:
    """As `grpc.aio`'s server, for handlers whose behavior is a coroutine function or an asynchronous generator function.

    Args:
        options: gRPC's own.
        interceptors: wrap the handler of each call; the first is the outermost.
        request_seconds: in which a call's request has to arrive; `None` for no bound.
    """

    def __init__(
        self,
        options: Sequence[tuple[str, int]] = (),
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        request_seconds: float | None = None,
    ) -> None:
        self._core = Server(tuple(options), False)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._methods: dict[str, Method] = {}
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._completions = Completions(self._fail)
        self._held = HeldStatuses()
        self._arrivals = Arrivals(request_seconds)
        self._common = Common(
            loop=asyncio.get_running_loop(),
            outbox=Outbox(),
            interceptors=interceptors,
            outliving=set(),
            held=self._held,
            arrivals=self._arrivals,
        )
        self._ended = asyncio.Event()
        self._is_started = self._is_stopping = False
        self._core.register_completion_queue(self._completions.queue)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve these as well."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Do nothing: generated code adds the same handlers as generic ones."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without TLS, and return the port.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        port: int = self._core.add_http2_port(address.encode())
        if not port:
            raise RuntimeError(f"cannot bind {address}")
        return port

    async def start(self) -> None:
        """Serve."""
        self._is_started = True
        self._core.start()
        self._completions.start()
        for _ in range(_READY):
            self._ask_for_a_call()

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, let those in flight finish within `grace` seconds, cancel the others, and end."""
        if not self._is_started:
            return
        if not self._is_stopping:
            self._is_stopping = True
            self._core.shutdown(self._completions.queue, self._shut_down)
            if grace:
                self._held.begin()
        if grace:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace)
        if not self._ended.is_set():
            self._held.end()
            await asyncio.sleep(0)  # what was held is sent in this turn of the loop
            self._core.cancel_all_calls()
            await self._ended.wait()

    async def ended(self) -> Exception:
        """Return, with the reason, when nothing is served any more although nobody stopped the server."""
        return await asyncio.shield(self._failure)

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_result(error)

    def _shut_down(self, _event: Any) -> None:
        self._core.destroy()
        asyncio.get_running_loop().call_soon(self._end)  # not from within what it ends

    def _end(self) -> None:
        self._common.outbox.close()
        self._arrivals.close()
        self._completions.close()
        self._ended.set()

    def _ask_for_a_call(self) -> None:
        queue = self._completions.queue
        self._core.request_call(queue, queue, self._arrived)

    def _arrived(self, event: Any) -> None:
        if not self._is_stopping:
            self._ask_for_a_call()
        if event.success and event.call_details.method and not self._common.outbox.is_closed:
            Call(event, self._method(event), self._common)

    def _method(self, event: Any) -> Method | None:
        """Return who answers a call; those who are there are found once."""
        name = event.call_details.method
        if (method := self._methods.get(name)) is not None:
            return method
        details = CallDetails(shown(name), event.invocation_metadata)
        try:
            handler = next((found for one in self._handlers if (found := one.service(details)) is not None), None)
        except Exception as error:  # noqa: BLE001 - it is the call's to log and to answer
            return prepare(grpc.unary_unary_rpc_method_handler(partial(_raise, error)))
        if handler is None:
            return None
        method = self._methods[name] = prepare(handler)
        return method


async def _raise(error: Exception, _request: Any, _call: Any) -> NoReturn:
    raise error
