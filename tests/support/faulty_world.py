"""An engine, the replicas of a host and the backend behind them, with everything that can go wrong between them."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from grpc import StatusCode

from connector_core import Phase
from connector_core.jobs.steady_clock import SteadyClock
from connector_core.task import idempotency_key
from connector_core.testing import FakeBackend, FakePropeller
from connector_core.testing.backend import Hold
from connector_core.testing.propeller import Attempt, Call, EngineTask, Workflow
from tests.fakes import eventually
from tests.support.memories import Kind
from tests.support.replicas import TASK_TYPE, Ending, Replica

OK = StatusCode.OK
LOST = "the request was lost"
"""In the details of a call that no host has seen."""

_PROMISE = b"\x00connector-host/1/job\x00"

LOST_REPLY = 504
"""The backend's status for a reply that it lost, and for nothing else here."""

_LET_GO_ON = 0.02

_BEYOND_CREATES = 100.0
"""Seconds after which no create of a host runs any more that was begun before."""

_FAILED_POLLS = 20
"""Polls in a row that hosts ride out which promise jobs: few, since there are jobs that such a host never finds again."""


class Clock(SteadyClock):
    """The clock of all hosts of a world, which a test moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def __call__(self) -> float:
        return super().__call__() + self.passed


class Promising(NamedTuple):
    """What makes a world in which creates are promised.

    Attributes:
        deadline: that of the engine's creates, in seconds.
        clock: what hosts tell by that the longest time of a create has passed.
    """

    deadline: float
    clock: Clock


class World:
    """All of it. Methods do things to it; `tests.support.promises` says what must be true of it.

    Attributes:
        ends: how many lives of hosts have ended.
        unanswered_for_sure: output prefixes of attempts whose first create was cut while its start was held at the backend.
        forgotten: those of attempts whose create had no answer when a host ended that could not remember it.
        lost_with_memory: those of attempts that were begun before a host ended whose memory ended with it.
        aborted: tasks that their user aborted.
        deleted: those whose job was deleted by somebody besides the engine.
        reversions: what GetTask calls of the test were told after a terminal phase, where that was something else.
        promising: whether, and how, creates are promised that take long.
    """

    def __init__(
        self, name: str, memory: Kind, replicas: int, *, is_idempotent: bool, promising: Promising | None = None
    ) -> None:
        self.promising = promising
        self.memory = memory
        self.is_idempotent = is_idempotent
        self.backend = FakeBackend(is_idempotent=is_idempotent)
        settings = {} if promising is None else {"ride_out": {"failures": _FAILED_POLLS}}
        self.replicas = [Replica(self.backend, memory, settings) for _ in range(replicas)]
        self.engine: FakePropeller
        self.ends = 0
        self.unanswered_for_sure: set[str] = set()
        self.forgotten: set[str] = set()
        self.lost_with_memory: set[str] = set()
        self.aborted: set[EngineTask] = set()
        self.deleted: set[EngineTask] = set()
        self.asked: list[Call] = []
        self.reversions: list[str] = []
        self.engine_is_down = False
        self._workflow = Workflow(name=name)
        self._holds: dict[str, Hold] = {}
        self._rounds: list[asyncio.Task[None]] = []
        self._endings: list[asyncio.Task[None]] = []
        self._cuts_to_notice = 0.0

    async def open(self) -> None:
        """Start everything."""
        for replica in self.replicas:
            await replica.start()
        # Without deadlines but for promises: those that pass in here pass at a moment that the test chooses.
        self.engine = FakePropeller(
            [one.address for one in self.replicas],
            deadline=None,
            deadlines={} if self.promising is None else {"CreateTask": self.promising.deadline},
            workflow=self._workflow,
            supported_task_types=[TASK_TYPE],
        )

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        self.backend.heal()
        self.engine.faults.clear()
        await self.engine.go_down()
        await asyncio.gather(*self._rounds, return_exceptions=True)
        for replica in self.replicas:
            if replica.host is not None:
                self._endings.append(await replica.end(Ending.GRACEFUL))
        await asyncio.gather(*self._endings)

    @property
    def tasks(self) -> list[EngineTask]:
        return self.engine.tasks

    def attempts(self) -> Iterator[tuple[EngineTask, Attempt]]:
        """Yield each attempt of each task."""
        for task in self.tasks:
            for attempt in task.attempts:
                yield task, attempt

    # The engine

    async def round(self) -> None:
        """Begin a round of the engine, and return when it is over or does not go on because something is held."""
        one = asyncio.create_task(self.engine.step())
        self._rounds.append(one)
        may_not_end = self._holds or (self.memory.has_leases and self.ends)
        await asyncio.wait([one], timeout=_LET_GO_ON if may_not_end else None)
        if one.done():
            one.result()

    async def round_with_cut(self, task: EngineTask, method: str, *, takes_effect: bool) -> None:
        """Let the deadline of a task's next call pass while the backend has it in its hands."""
        self.hold(
            {"CreateTask": "start", "GetTask": "status", "DeleteTask": "cancel"}[method], takes_effect=takes_effect
        )

        async def when() -> None:
            if method != "CreateTask":
                await self.backend.until(lambda: self._held(method), patience=None)
                return
            key, is_first = key_of(task.attempt), not creates_of(task, task.attempt)
            await self.backend.until(lambda: key in self._held(method), patience=None)
            if is_first:  # what is held came with another call else, and this one may not have arrived
                self.unanswered_for_sure.add(task.attempt.output_prefix)
                self._cuts_to_notice += 1

        self.engine.faults.cut(method, when, task=task)
        await self.round()

    async def round_with_promise(self, task: EngineTask, *, takes_effect: bool) -> None:
        """Begin a round in which the backend keeps a task's create for so long that it is promised."""
        self.hold("start", takes_effect=takes_effect)
        before = len(task.calls)
        await self.round()
        one = self._rounds[-1]
        await eventually(lambda: one.done() or len(task.calls) > before)

    async def fall_silent(self) -> None:
        """Let the engine go down; creates that are held at the backend have no answer for sure."""
        await self._cuts_are_noticed()
        held = self._held("CreateTask")
        flying = {attempt.output_prefix for task, attempt in self.attempts() if key_of(attempt) in held}
        await self.engine.go_down()
        self.engine_is_down = True
        await eventually(lambda: sum(replica.creates_in_flight() for replica in self.replicas) == 0)
        self._cuts_to_notice = self._cuts_noticed()
        if self.promising is None:  # a promise may have been on its way
            self.unanswered_for_sure |= flying

    def come_back(self) -> None:
        """Let the engine go on."""
        self.engine.come_back()
        self.engine_is_down = False

    def abort(self, task: EngineTask, times: int) -> None:
        """Abort a task as its user would."""
        self.aborted.add(task)
        self.engine.abort(task, times=times)

    async def delete(self, task: EngineTask) -> None:
        """Begin to delete a task's job, if it has one, as somebody besides the engine does."""
        if task.attempt.resource_meta is None:
            return
        self.deleted.add(task)
        deleting = asyncio.create_task(self._delete(task))
        self._rounds.append(deleting)
        await asyncio.wait([deleting], timeout=_LET_GO_ON)

    async def _delete(self, task: EngineTask) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the channel is closed when the engine goes down or moves
            await self.engine.delete(task)

    async def ask(self, task: EngineTask) -> None:
        """Ask for the state of a task's job, if it has one, as a console does besides the engine."""
        if task.attempt.resource_meta is None:
            return
        told = last_word(task.calls, task.attempt.number)
        call = await self.engine.get(task)
        self.asked.append(call)
        if told is not None and call.resource is not None and call.resource.phase != told:
            self.reversions.append(f"{task}: told {told}, then {call.resource.phase}")

    # The backend

    def hold(self, operation: str, *, takes_effect: bool) -> None:
        """Hold calls of an operation at the backend, unless they are held already."""
        if operation not in self._holds:
            hold = self.backend.hold_reply(operation) if takes_effect else self.backend.hold(operation)
            self._holds[operation] = hold

    async def release(self, operation: str) -> None:
        """Let held calls go on; not before the hosts know which of their callers have gone."""
        if operation == "start":
            await self._cuts_are_noticed()
        if (hold := self._holds.pop(operation, None)) is not None:
            hold.release()

    # Hosts

    async def end(self, replica: Replica, ending: Ending) -> None:
        """End a host's life."""
        if replica.host is None:
            return
        await self._cuts_are_noticed()
        held = self._held("CreateTask")
        refusals = {attempt.output_prefix: _refusals(task, attempt) for task, attempt in self.attempts()}
        self._note_what_is_forgotten(ending)
        self.ends += 1
        ended = await replica.end(ending)
        if ending is Ending.CRASH:
            self._endings.append(ended)
        else:
            self._holds.clear()  # it healed the backend
            await ended
        self.unanswered_for_sure |= {
            attempt.output_prefix
            for task, attempt in self.attempts()
            if self.promising is None
            and key_of(attempt) in held
            and _refusals(task, attempt) > refusals[attempt.output_prefix]
        }
        self._cuts_to_notice = self._cuts_noticed()

    def let_creates_grow_old(self) -> None:
        """Let the longest time of creates pass that were begun before."""
        if self.promising is not None:
            self.promising.clock.passed += _BEYOND_CREATES

    async def start(self, replica: Replica) -> None:
        """Start a host's next life."""
        if replica.host is not None:
            return
        before = replica.address
        await replica.start()
        if replica.address != before or len(self.replicas) == 1:
            # Rounds take no time here, and gRPC connects again after a pause only: a new channel does so at once.
            await self.engine.move([one.address for one in self.replicas])

    def _note_what_is_forgotten(self, ending: Ending) -> None:
        begun = {attempt.output_prefix for _task, attempt in self.attempts() if self.backend_was_asked(attempt)}
        unanswered = {
            attempt.output_prefix
            for task, attempt in self.attempts()
            if attempt.output_prefix in begun and not self._is_known(task, attempt)
        }
        if not self.memory.survives:
            self.lost_with_memory |= begun
        if ending is Ending.CRASH or not self.memory.survives:
            self.forgotten |= unanswered

    def _is_known(self, task: EngineTask, attempt: Attempt) -> bool:
        """Return whether a create was answered with its job, or with a promise that is known to have become one since."""
        if all(call.code is not OK for call in creates_of(task, attempt)):
            return False
        meta = attempt.resource_meta
        if self.promising is None or (meta is not None and not is_promise(meta)):
            return True
        phases = {
            call.resource.phase for call in task.calls if call.attempt == attempt.number and call.resource is not None
        }
        return bool(phases & {Phase.RUNNING.value, Phase.SUCCEEDED.value})

    def backend_was_asked(self, attempt: Attempt) -> bool:
        """Whether a host has got as far as to ask the backend for this attempt's job."""
        key = key_of(attempt)
        asked = {call.subject for call in self.backend.calls if call.operation == "start"}
        return key in asked or key in self._held("CreateTask")

    # The end

    async def heal(self) -> None:
        """Let everything work again, and wait until what was under way is over."""
        if self.memory.has_leases and self.ends and self.promising is None:
            # A create that waits for a lease of a dead host would wait for minutes: the engine does not, it asks anew.
            if not self.engine_is_down:
                await self.fall_silent()
            for task in self.tasks:
                self.engine.faults.cut("CreateTask", _a_second, task=task)
        await self._cuts_are_noticed()
        self.backend.heal()
        self._holds.clear()
        if self.engine_is_down:
            self.come_back()
        for replica in self.replicas:
            await self.start(replica)
        await asyncio.gather(*self._rounds)
        if self.promising is not None and self.ends:  # what a crash has cut off is taken for lost
            self.let_creates_grow_old()
            self.memory.let_leases_end(_BEYOND_CREATES)

    async def settle(self, max_rounds: int) -> None:
        """Make rounds until each task has ended, or has a job that the engine knows to be running."""
        for _ in range(max_rounds):
            if all(_stands(task) for task in self.tasks):
                return
            await self.engine.step()
        waiting = "\n".join(f"- {task}" for task in self.tasks if not _stands(task))
        raise AssertionError(f"after {max_rounds} rounds of the engine these tasks have no known state:\n{waiting}")

    def _held(self, method: str) -> set[str | None]:
        hold = self._holds.get({"CreateTask": "start", "GetTask": "status", "DeleteTask": "cancel"}[method])
        return {one.subject for one in hold.requests if not one.is_answered} if hold is not None else set()

    def _cuts_noticed(self) -> float:
        return sum(replica.creates_cut() for replica in self.replicas)

    async def _cuts_are_noticed(self) -> None:
        """Wait until the hosts know of each create that was cut: else they might answer it, and remember it as answered."""
        await eventually(lambda: self._cuts_noticed() >= self._cuts_to_notice)


def key_of(attempt: Attempt) -> str:
    """Return the idempotency key that hosts give the backend for an attempt."""
    return idempotency_key(attempt.task_execution_id, attempt.output_prefix)


def creates_of(task: EngineTask, attempt: Attempt) -> list[Call]:
    """Return the CreateTask calls of an attempt that were made."""
    return [one for one in task.calls_of("CreateTask") if one.attempt == attempt.number and LOST not in one.details]


def last_word(calls: Iterable[Call], attempt: int) -> int | None:
    """Return the first terminal phase that was answered for an attempt's job, if one was."""
    phases = (call.resource.phase for call in calls if call.attempt == attempt and call.resource is not None)
    return next((phase for phase in phases if Phase(phase).is_terminal), None)


def is_promise(resource_meta: bytes) -> bool:
    """Return whether a resource meta promises a job."""
    return resource_meta.startswith(_PROMISE)


def _refusals(task: EngineTask, attempt: Attempt) -> int:
    return sum(call.code is not OK for call in creates_of(task, attempt))


def _stands(task: EngineTask) -> bool:
    if task.is_settled:
        return True
    if task.attempt.resource_meta is None or task.deletes_to_come:
        return False
    last = task.calls[-1]
    return last.method == "GetTask" and last.code is OK and task.phase is Phase.RUNNING


async def _a_second() -> None:
    await asyncio.sleep(1)
