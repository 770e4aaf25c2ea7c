"""Faults on the engine's own side of a call: on the network, or inside the engine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from grpc import StatusCode

from connector_core.testing.propeller.engine_tasks import EngineTask
from connector_core.testing.propeller.wire import Reply

MakeCall = Callable[[], Awaitable[Reply]]
_SAVE = "save"


@dataclass
class _Planned:
    method: str
    happen: Callable[[MakeCall], Awaitable[Reply]]
    task: EngineTask | None
    times: int | None

    def concerns(self, method: str, task: EngineTask | None) -> bool:
        return self.method == method and (self.task is None or self.task is task)


class Faults:
    """Trouble to come, in the order in which it was planned.

    Each method takes the method of the protocol (`"CreateTask"`, `"GetTask"`, `"DeleteTask"`, `"ExecuteTaskSync"`,
    `"ListAgents"`), how many `times` it happens (`None`: until `clear`), and the `task` that it happens to, any unless given.
    """

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def lose_request(
        self,
        method: str,
        *,
        times: int | None = 1,
        task: EngineTask | None = None,
        code: StatusCode = StatusCode.UNAVAILABLE,
    ) -> None:
        """The call fails before the server has seen it."""

        async def happen(_make_call: MakeCall) -> Reply:
            return Reply(code, "the request was lost (planned by the test)")

        self._planned.append(_Planned(method, happen, task, times))

    def lose_reply(
        self,
        method: str,
        *,
        times: int | None = 1,
        task: EngineTask | None = None,
        code: StatusCode = StatusCode.UNAVAILABLE,
    ) -> None:
        """The server does what it was asked, but its answer does not arrive."""

        async def happen(make_call: MakeCall) -> Reply:
            await make_call()
            return Reply(code, "the reply was lost (planned by the test)")

        self._planned.append(_Planned(method, happen, task, times))

    def cut(
        self,
        method: str,
        when: Callable[[], Awaitable[object]],
        *,
        times: int | None = 1,
        task: EngineTask | None = None,
    ) -> None:
        """The call's deadline passes at the moment at which `when()` returns; an answer that is there by then counts.

        The deadline is not a span of time: the server sees the call end, and the engine DEADLINE_EXCEEDED.
        """

        async def happen(make_call: MakeCall) -> Reply:
            call, moment = asyncio.ensure_future(make_call()), asyncio.ensure_future(when())
            try:
                await asyncio.wait({call, moment}, return_when=asyncio.FIRST_COMPLETED)
                if call.done():
                    return call.result()
                moment.result()
                return Reply(StatusCode.DEADLINE_EXCEEDED, "the deadline passed (planned by the test)")
            finally:
                call.cancel()
                moment.cancel()
                await asyncio.wait({call, moment})

        self._planned.append(_Planned(method, happen, task, times))

    def fail_to_save(self, *, times: int | None = 1, task: EngineTask | None = None) -> None:
        """The engine cannot save its own state after a create that was answered OK, so that it repeats the same attempt."""

        async def happen(make_call: MakeCall) -> Reply:
            return await make_call()

        self._planned.append(_Planned(_SAVE, happen, task, times))

    async def around(self, method: str, task: EngineTask | None, make_call: MakeCall) -> Reply:
        """Make a call, with the trouble that is planned for it."""
        planned = self._take(method, task)
        return await (planned.happen(make_call) if planned else make_call())

    def prevents_saving(self, task: EngineTask) -> bool:
        """Return whether the engine fails to save what it has just learnt of a task."""
        return self._take(_SAVE, task) is not None

    def clear(self) -> None:
        """Plan nothing any more."""
        self._planned.clear()

    def _take(self, method: str, task: EngineTask | None) -> _Planned | None:
        found = next((planned for planned in self._planned if planned.concerns(method, task)), None)
        if found is not None and found.times is not None:
            found.times -= 1
            if found.times == 0:
                self._planned.remove(found)
        return found
