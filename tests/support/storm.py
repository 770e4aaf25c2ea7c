"""Calls of all kinds at once, cut at any point by seeded chance; what comes of each has to be something that may."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from grpc import StatusCode

from tests.support.bytes_server import Frames, Served, both, into, one, out, outcome

OK = {StatusCode.OK}
CUT = {StatusCode.OK, StatusCode.CANCELLED}
LATE = {StatusCode.OK, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED}
STOPPED = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.UNKNOWN, StatusCode.INTERNAL}
"""What a call may end with besides, when its server stops under it; INTERNAL is what `grpc.aio`'s client calls a request that
it could not send any more."""

_AT_ONCE = 60
_SIZES = (0, 1, 100, 5000, 100_000)


class Storm:
    """Handlers, and calls of them.

    Args:
        seed: of all chance.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.begun = self.ended = 0
        self.outcomes: Counter[str] = Counter()
        self.is_stopping = False

    @property
    def methods(self) -> dict[str, Any]:
        """The handlers."""
        return {
            "Echo": one(self._echo),
            "Abort": one(self._abort),
            "Fail": one(self._fail),
            "Wait": one(self._wait),
            "Repeat": out(self._repeat),
            "Count": into(self._count),
            "Echoes": both(self._echoes),
            "Written": both(self._written),
        }

    async def blow(self, server: Served, calls: int) -> None:
        """Make so many calls, some at a time.

        Raises:
            AssertionError: one was answered as it must not be.
        """
        limit = asyncio.Semaphore(_AT_ONCE)

        async def call(kind: Callable[[Served], Awaitable[None]]) -> None:
            async with limit:
                await kind(server)

        kinds = [
            self._call_echo,
            self._call_echoes,
            self._call_count,
            self._call_abort,
            self._call_fail,
            self._call_cut,
            self._call_cut,
            self._call_late,
            self._call_unread,
            self._call_by_frames,
            self._call_on_closed_channel,
        ]
        await asyncio.gather(*(call(self._random.choice(kinds)) for _ in range(calls)))

    # -- handlers --------------------------------------------------------------------------------------------------

    async def _dawdle(self) -> None:
        for _ in range(self._random.choice((0, 0, 1, 3))):
            await asyncio.sleep(self._random.choice((0, 0, 0.001)))

    async def _in_a_call(self, doing: Callable[[], Awaitable[bytes]]) -> bytes:
        self.begun += 1
        try:
            await self._dawdle()
            return await doing()
        finally:
            self.ended += 1

    async def _echo(self, request: bytes, _context: Any) -> bytes:
        return await self._in_a_call(partial(_give, request))

    async def _abort(self, _request: bytes, context: Any) -> bytes:
        return await self._in_a_call(partial(context.abort, StatusCode.NOT_FOUND, "gone"))

    async def _fail(self, _request: bytes, context: Any) -> bytes:
        return await self._in_a_call(_fail)

    async def _wait(self, _request: bytes, _context: Any) -> bytes:
        return await self._in_a_call(_wait)

    async def _count(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return await self._in_a_call(partial(_count, requests))

    async def _repeat(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            for _ in range(self._random.randrange(20)):
                await self._dawdle()
                yield request
        finally:
            self.ended += 1

    async def _echoes(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            async for request in requests:
                await self._dawdle()
                yield request
        finally:
            self.ended += 1

    async def _written(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.begun += 1
        try:
            async for request in requests:
                await context.write(request)
        finally:
            self.ended += 1

    # -- calls -----------------------------------------------------------------------------------------------------

    def _message(self) -> bytes:
        return self._random.randbytes(self._random.choice(_SIZES))

    def _messages(self) -> list[bytes]:
        return [self._message() for _ in range(self._random.randrange(12))]

    def _any_call(self, client: Any, **options: Any) -> Any:
        name = self._random.choice(("Echo", "Abort", "Wait", "Repeat", "Count", "Echoes", "Written"))
        if name in {"Echo", "Abort", "Wait"}:
            return client.one(name, self._message(), **options)
        if name == "Repeat":
            return client.out(name, self._message(), **options)
        arity = client.into if name == "Count" else client.both
        # one that gets no requests is never answered
        return arity(name, self._random.choice((None, iter(self._messages()))), **options)

    def _check(self, kind: str, got: tuple[StatusCode, str], legal: set[StatusCode]) -> None:
        code, details = got
        self.outcomes[f"{kind} {code.name}"] += 1
        assert code in legal or (self.is_stopping and code in STOPPED), f"{kind} ended with {code.name}: {details}"

    async def _call_echo(self, server: Served) -> None:
        request = self._message()
        call = server.one("Echo", request)
        got = await outcome(call)
        self._check("echo", got, OK)
        assert got[0] is not StatusCode.OK or await call == request

    async def _call_echoes(self, server: Served) -> None:
        messages = self._messages()
        call = server.both(self._random.choice(("Echoes", "Written")), iter(messages))
        answers: list[bytes] = []
        got = await outcome(_collected(call, answers))
        self._check("echoes", got, OK)
        assert got[0] is not StatusCode.OK or answers == messages

    async def _call_count(self, server: Served) -> None:
        messages = self._messages()
        call = server.into("Count", iter(messages))
        got = await outcome(call)
        self._check("count", got, OK)
        assert got[0] is not StatusCode.OK or await call == b"%d" % len(messages)

    async def _call_abort(self, server: Served) -> None:
        self._check("abort", await outcome(server.one("Abort")), {StatusCode.NOT_FOUND})

    async def _call_fail(self, server: Served) -> None:
        self._check("fail", await outcome(server.one("Fail")), {StatusCode.UNKNOWN})

    async def _call_cut(self, server: Served) -> None:
        call = self._any_call(server)
        ended = asyncio.ensure_future(outcome(call))
        await asyncio.sleep(self._random.choice((0, 0.001, 0.005, 0.02)))
        call.cancel()
        self._check("cut", await ended, {*CUT, StatusCode.NOT_FOUND, StatusCode.INTERNAL})

    async def _call_late(self, server: Served) -> None:
        call = self._any_call(server, timeout=self._random.choice((0.0001, 0.001, 0.02)))
        self._check("late", await outcome(call), {*LATE, StatusCode.NOT_FOUND, StatusCode.INTERNAL})

    async def _call_unread(self, server: Served) -> None:
        call = server.both("Written", iter([bytes(100_000)] * 20))
        await self._dawdle()
        call.cancel()
        self._check("unread", await outcome(call), {*CUT, StatusCode.INTERNAL})

    async def _call_by_frames(self, server: Served) -> None:
        try:
            async with Frames(server.port) as client:
                for name in self._random.choices(list(self.methods), k=5):
                    stream = client.call(name, *self._messages(), ends=self._random.random() < 0.5)
                    if self._random.random() < 0.5:
                        client.reset(stream)
                await self._dawdle()
        except OSError:
            assert self.is_stopping
        self.outcomes["frames"] += 1

    async def _call_on_closed_channel(self, server: Served) -> None:
        async with server.another_client(self._random.randrange(10**9)) as client:
            ended = asyncio.ensure_future(outcome(self._any_call(client)))
            await self._dawdle()
            await client.channel.close()
            legal = {*CUT, StatusCode.NOT_FOUND, StatusCode.INTERNAL, StatusCode.UNAVAILABLE}
            self._check("closed channel", await ended, legal)


async def _give(answer: bytes) -> bytes:
    return answer


async def _fail() -> bytes:
    raise ValueError("so it is to be")


async def _wait() -> bytes:
    await asyncio.Event().wait()
    return b""


async def _count(requests: AsyncIterator[bytes]) -> bytes:
    return b"%d" % len([request async for request in requests])


async def _collected(call: Any, answers: list[bytes]) -> None:
    async for answer in call:
        answers.append(answer)  # noqa: PERF401 - what came before an error counts as well
