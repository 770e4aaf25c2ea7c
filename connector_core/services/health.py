"""`grpc.health.v1`, which ends the streams of those who watch it when the host drains."""

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_PATIENCE = 1.0
"""Seconds for a client to take the last status; one that does not read must not hold the drain up."""


class HealthService(HealthServicer):
    """Answers for the host and for each of its services.

    Clients with gRPC's own health checking watch for as long as they are connected. Their streams count as calls in
    flight, and would make every drain last for the whole grace.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[_Watch] = set()

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:
        """Stream the status of a service, until the client leaves or the host drains."""
        watch = _Watch(context)
        watch.task = asyncio.create_task(super().Watch(request, watch))
        self._watches.add(watch)
        try:
            await watch.task
        except asyncio.CancelledError:
            if not watch.is_over:
                raise
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the host is stopping")
        finally:
            self._watches.discard(watch)

    async def drain(self) -> None:
        """Answer NOT_SERVING from now on, and end the streams of watchers."""
        await self.enter_graceful_shutdown()
        await asyncio.gather(*(watch.end() for watch in self._watches))


class _Watch:
    """One client's stream: passes on what is written, and knows when that was NOT_SERVING."""

    task: asyncio.Task[None]

    def __init__(self, context: Any) -> None:
        self.is_over = False
        self._context = context
        self._is_told_serving = False
        self._told_of_the_end = asyncio.Event()
        self._is_silent = asyncio.Event()
        self._is_silent.set()

    async def write(self, answer: HealthCheckResponse) -> None:
        """Send a status."""
        self._is_silent.clear()
        await self._context.write(answer)
        self._is_silent.set()
        self._is_told_serving = answer.status == HealthCheckResponse.SERVING
        if answer.status == HealthCheckResponse.NOT_SERVING:
            self._told_of_the_end.set()

    async def end(self) -> None:
        """End the stream, behind what is being written, and behind NOT_SERVING where the client has last heard SERVING.

        `grpc.aio` cannot end a stream while it writes to it: it would be left open until the client ends it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._is_silent.wait()
                if self._is_told_serving:
                    await self._told_of_the_end.wait()
        self.is_over = True
        self.task.cancel()
