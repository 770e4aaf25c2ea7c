"""No job is lost, doubled or wrongly failed, whatever goes wrong in whichever order: hosts under a machine of faults."""

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from connector_core.testing.backend import Job, JobState
from connector_core.testing.propeller import EngineTask
from tests.support.faulty_world import LOST_REPLY, Clock, Promising, World
from tests.support.memories import InProcess, InRedis, Kind, OnDisk
from tests.support.promises import broken_at_any_time, broken_in_the_end, described, doubled, job_of
from tests.support.redis_server import running_redis
from tests.support.replicas import TASK_TYPE, Ending

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
pytestmark = pytest.mark.timeout(3 * 3600 if IS_LONG else 120)

MAX_TASKS = 4
MAX_PROMISED_TASKS = 7
MAX_ROUNDS = 60
PATIENCE = 60.0
"""Seconds after which something waits for ever."""
DEADLINE = 0.3
"""Seconds that the engine gives a create where they are promised: what is held takes longer, and nothing else."""
DELETE_PATIENCE = 12.0
"""Seconds within which a job is deleted, once the backend lets it: the pauses between tries are random, and grow to four."""

some = st.integers(0, 20)
"""Which task, job or host; counted round."""

MANY = 8
"""Times in a row that the backend has to refuse a call, so that the host gives up before it gets an answer."""

MAX_FAILED_CANCELS = 3
MAX_JUMPS = 3
"""Times that a host's clock moves on, in all for less than a deletion that fails is given up after."""

METHODS = st.sampled_from(["CreateTask", "GetTask", "DeleteTask"])
OPERATIONS = st.sampled_from(["start", "status", "cancel"])
A_FEW = st.integers(1, 2)


class Faults(RuleBasedStateMachine):
    """One world, to which one thing after the other is done; at the end it is healed, and has to keep every promise."""

    def __init__(self, new_world: Callable[[bool], World]) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._new_world = new_world
        self._world: World | None = None
        self._has_failed = False
        self._failed_cancels = 0
        self._jumps = 0

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the machine's loop; nothing may take for ever."""

        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await work

        self._has_failed = True
        self._runner.run(bounded())
        self._has_failed = False

    def open_world(self, is_idempotent: bool) -> None:
        self._world = self._new_world(is_idempotent)
        self.run(self._world.open())

    # The engine

    def is_up(self) -> bool:
        return self._world is not None and not self._world.engine_is_down

    @rule()
    def time_passes(self) -> None:
        """The engine makes a round after each rule."""

    @precondition(lambda self: self.is_up())
    @rule(which=some, method=METHODS, takes_effect=st.booleans())
    def a_deadline_passes(self, which: int, method: str, takes_effect: bool) -> None:
        self.run(self.world.round_with_cut(self.task(which), method, takes_effect=takes_effect))

    @rule(
        method=st.sampled_from(["ListAgents", "CreateTask", "GetTask", "DeleteTask"]),
        arrives=st.booleans(),
        times=A_FEW,
    )
    def the_network_loses_calls(self, method: str, arrives: bool, times: int) -> None:
        faults = self.world.engine.faults
        (faults.lose_reply if arrives else faults.lose_request)(method, times=times)

    @rule(times=A_FEW)
    def the_engine_cannot_save(self, times: int) -> None:
        self.world.engine.faults.fail_to_save(times=times)

    @precondition(lambda self: self.is_up())
    @rule()
    def the_engine_falls_silent(self) -> None:
        self.run(self.world.fall_silent())

    @precondition(lambda self: not self.is_up())
    @rule()
    def the_engine_comes_back(self) -> None:
        self.world.come_back()

    @rule(which=some, times=A_FEW)
    def a_user_aborts(self, which: int, times: int) -> None:
        self.world.abort(self.task(which), times)

    @rule(which=some)
    def the_engine_loses_a_task(self, which: int) -> None:
        self.world.engine.forget(self.task(which))

    @precondition(lambda self: self.is_up())
    @rule(which=some)
    def somebody_else_asks(self, which: int) -> None:
        self.run(self.world.ask(self.task(which)))

    # The backend

    @rule(operation=OPERATIONS, trouble=st.sampled_from([400, 429, 503, LOST_REPLY]), times=A_FEW)
    def the_backend_fails(self, operation: str, trouble: int, times: int) -> None:
        if operation == "cancel":  # the host gives up in the end, and pauses longer and longer before that
            times = min(times, MAX_FAILED_CANCELS - self._failed_cancels)
            self._failed_cancels += times
        if not times:
            return
        if trouble == LOST_REPLY:
            self.world.backend.lose_reply(operation, LOST_REPLY, times=times)
        elif (
            trouble == 400 and operation != "start"
        ):  # a job that the backend calls invalid later on has failed for good
            self.world.backend.refuse(operation, times=times)
        else:
            self.world.backend.refuse(operation, trouble, times=times)

    @rule()
    def the_backend_is_away_for_longer_than_a_poll_tries(self) -> None:
        self.world.backend.refuse("status", times=MANY)

    @rule(operation=OPERATIONS, takes_effect=st.booleans())
    def the_backend_is_late(self, operation: str, takes_effect: bool) -> None:
        self.world.hold(operation, takes_effect=takes_effect)

    @rule(operation=OPERATIONS)
    def the_backend_answers_at_last(self, operation: str) -> None:
        self.run(self.world.release(operation))

    @rule(which=some, succeeds=st.booleans(), is_asked_for=st.booleans(), is_forgotten=st.booleans())
    def a_job_ends(self, which: int, succeeds: bool, is_asked_for: bool, is_forgotten: bool) -> None:
        task = self.task(which)
        job = job_of(self.world, task.attempt)
        if job is None or not job.is_live:
            return
        self.end_job(job, succeeds)
        if is_asked_for and self.is_up():
            self.run(self.world.ask(task))
        if is_forgotten:
            self.world.backend.purge(job)

    # Hosts

    @rule(which=some, ending=st.sampled_from(Ending), starts_again=st.booleans())
    def a_host_ends(self, which: int, ending: Ending, starts_again: bool) -> None:
        replica = self.world.replicas[which % len(self.world.replicas)]
        self.run(self.world.end(replica, ending))
        if starts_again:
            self.run(self.world.start(replica))

    @rule()
    def all_hosts_start(self) -> None:
        for replica in self.world.replicas:
            self.run(self.world.start(replica))

    # Promises

    @invariant()
    def the_engine_goes_on_and_nothing_is_broken_for_good(self) -> None:
        if self._world is not None:
            if self.is_up():
                self.run(self._world.round())
            self.nothing(broken_at_any_time(self._world))

    def teardown(self) -> None:
        try:
            if self._world is not None and not self._has_failed:
                self.run(self.settle())
        finally:
            if self._world is not None:
                self.run(self._world.close())
            self._runner.close()

    async def settle(self) -> None:
        """Heal all, and hold the world to its promises."""
        world = self.world
        await world.heal()
        await world.settle(MAX_ROUNDS)
        with contextlib.suppress(TimeoutError):  # what is left is told below
            await world.backend.until(lambda: not doubled(world), patience=DELETE_PATIENCE)
        self.nothing(doubled(world))
        for number, job in enumerate(world.backend.live_jobs()):
            self.end_job(job, succeeds=number % 3 != 0)
        await world.engine.run_until_settled(MAX_ROUNDS)
        for task in world.tasks:
            await world.ask(task)
        await world.close()
        self.nothing(broken_in_the_end(world))

    def nothing(self, broken: list[str]) -> None:
        if broken:
            self._has_failed = True
            raise AssertionError("\n".join([*broken, "", described(self.world)]))

    def submit_task(self, *, is_twin: bool, max_attempts: int = 3) -> EngineTask:
        number = len(self.world.tasks)
        path = f"branch{number}/n0" if is_twin else f"n{number}"  # twins send one and the same task execution id
        return self.world.engine.submit(TASK_TYPE, {"number": number}, path=path, max_attempts=max_attempts)

    def task(self, which: int) -> EngineTask:
        return self.world.tasks[which % len(self.world.tasks)]

    def end_job(self, job: Job, succeeds: bool) -> None:
        if succeeds:
            self.world.backend.finish(job, {"job": job.id})
        else:
            self.world.backend.fail(job)
        assert job.state is not JobState.RUNNING


class PromisedFaults(Faults):
    """A world whose engine gives creates so little time that those which the backend holds are promised."""

    @initialize(is_idempotent=st.booleans(), takes_effect=st.booleans(), is_deleted=st.booleans())
    def open_with_promise(self, is_idempotent: bool, takes_effect: bool, is_deleted: bool) -> None:
        """Begin with a promise: a plan of random length seldom comes to one."""
        self.open_world(is_idempotent)
        self.a_create_is_promised(is_twin=False, takes_effect=takes_effect, is_saved=True)
        if is_deleted:
            self.somebody_else_deletes(which=0)

    @precondition(lambda self: self.is_up() and len(self.world.tasks) < MAX_PROMISED_TASKS)
    @rule(is_twin=st.booleans(), takes_effect=st.booleans(), is_saved=st.booleans())
    def a_create_is_promised(self, is_twin: bool, takes_effect: bool, is_saved: bool) -> None:
        task = self.submit_task(is_twin=is_twin)
        if not is_saved:  # so that the same attempt is created again, at the other replica where there is one
            self.world.engine.faults.fail_to_save(task=task)
        self.run(self.world.round_with_promise(task, takes_effect=takes_effect))

    @precondition(lambda self: self.is_up())
    @rule(which=some)
    def somebody_else_deletes(self, which: int) -> None:
        self.run(self.world.delete(self.task(which)))

    @rule()
    def the_backend_starts_what_it_holds(self) -> None:
        self.run(self.world.release("start"))

    @rule(which=some, ending=st.sampled_from(Ending))
    def a_host_ends_before_the_create_does(self, which: int, ending: Ending) -> None:
        """The backend starts nothing more until the next life; who waits for another replica's create is cut."""
        self.a_host_ends(which=which, ending=ending, starts_again=True)

    @precondition(lambda self: self.is_up() and self._jumps < MAX_JUMPS)
    @rule(which=some)
    def the_longest_time_of_a_create_passes(self, which: int) -> None:
        """A host that is asked takes the create for lost, if it does not run it."""
        self._jumps += 1
        self.world.let_creates_grow_old()
        self.run(self.world.ask(self.task(which)))


class CutCreates(Faults):
    """A world whose engine's deadlines pass at a moment that the machine chooses, so that nothing is promised."""

    @initialize(is_idempotent=st.booleans(), tasks=A_FEW, is_twin=st.booleans())
    def open(self, is_idempotent: bool, tasks: int, is_twin: bool) -> None:
        self.open_world(is_idempotent)
        for _ in range(tasks):
            self.submit_task(is_twin=is_twin)

    @precondition(lambda self: self.is_up() and len(self.world.tasks) < MAX_TASKS)
    @rule(is_twin=st.booleans(), max_attempts=st.integers(2, 4))
    def submit(self, is_twin: bool, max_attempts: int) -> None:
        self.submit_task(is_twin=is_twin, max_attempts=max_attempts)

    @precondition(lambda self: self.is_up() and len(self.world.tasks) < MAX_TASKS)
    @rule(is_twin=st.booleans(), takes_effect=st.booleans())
    def the_deadline_of_a_first_create_passes(self, is_twin: bool, takes_effect: bool) -> None:
        task = self.submit_task(is_twin=is_twin)
        self.run(self.world.round_with_cut(task, "CreateTask", takes_effect=takes_effect))


def check(memory: Callable[[int], Kind], replicas: int = 1, *, short: int, promising: Promising | None = None) -> None:
    """Let the machine look for a way to break a promise; `short` is the seed of the short run, `SEED` that of the long."""
    numbers = itertools.count(1)

    def new_world(is_idempotent: bool) -> World:
        number = next(numbers)
        name = f"execution{number}"
        return World(name, memory(number), replicas, is_idempotent=is_idempotent, promising=promising)

    machine: Any = functools.partial(CutCreates if promising is None else PromisedFaults, new_world)
    chosen = os.environ.get("SEED") if IS_LONG else str(short)
    run_state_machine_as_test(
        seed(int(chosen))(machine) if chosen else machine,
        settings=settings(
            max_examples=500 if IS_LONG else 20,
            stateful_step_count=50 if IS_LONG else 30,
            # To make a failure small takes minutes, since each try waits for what does not come: the long run does it.
            phases=(Phase.generate, Phase.shrink) if IS_LONG else (Phase.generate,),
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_promises_hold_with_one_host_that_remembers_in_its_process() -> None:
    check(lambda _number: InProcess(), short=1)


def test_promises_hold_with_one_host_that_remembers_on_disk(tmp_path: Path) -> None:
    check(lambda number: OnDisk(tmp_path / f"{number}.sqlite"), short=2)


def test_promises_hold_with_two_replicas_that_remember_in_redis() -> None:
    with running_redis() as redis:
        check(lambda _number: InRedis(redis.port), replicas=2, short=3)


@pytest.fixture
def promising(monkeypatch: pytest.MonkeyPatch) -> Promising:
    """Let creates be promised, and all hosts have a clock that can be moved on."""
    clock = Clock()
    monkeypatch.setattr("connector_core.jobs.jobs.SteadyClock", lambda: clock)
    # A host that has crashed tries in vain, which takes a process that was killed no time.
    monkeypatch.setattr("connector_core.jobs.job_promises.WRITE_SECONDS", 0.3)
    return Promising(DEADLINE, clock)


def test_promised_jobs_hold_with_one_host_that_remembers_in_its_process(promising: Promising) -> None:
    check(lambda _number: InProcess(), short=4, promising=promising)


def test_promised_jobs_hold_with_one_host_that_remembers_on_disk(tmp_path: Path, promising: Promising) -> None:
    check(lambda number: OnDisk(tmp_path / f"{number}.sqlite"), short=5, promising=promising)


def test_promised_jobs_hold_with_two_replicas_that_remember_in_redis(promising: Promising) -> None:
    with running_redis() as redis:
        check(lambda _number: InRedis(redis.port), replicas=2, short=6, promising=promising)
