"""The fake engine: tasks go in, and round by round it calls connector servers as FlytePropeller does."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from grpc import StatusCode

from connector_core.connection import Connection
from connector_core.literals import to_literal_map
from connector_core.resource import Phase
from connector_core.task import TaskCategory
from connector_core.testing.propeller.engine_tasks import Call, EngineTask, Workflow, complete
from connector_core.testing.propeller.phases import SECOND_GENERATION_SINCE
from connector_core.testing.propeller.planned_faults import Faults
from connector_core.testing.propeller.rounds import Rounds
from connector_core.testing.propeller.routing import DEFAULT, Deployment, RoutingTable
from connector_core.testing.propeller.wire import Wire

DEFAULT_DEADLINES = {False: 3.0, True: 10.0}
"""Seconds that the engine gives each call to its default deployment; whether it is its v2."""

_AT_ONCE = partial(asyncio.sleep, 0)


class FakePropeller:
    """An engine for tests: it knows tasks, calls servers over real gRPC and keeps a record of all that happened.

    Nothing happens by itself and no time passes: `step` is one round of polling, which the real engine makes every ten
    seconds. In each round the routing table is rebuilt, then each task that is not settled gets one call: its start, a
    look at its job, or its end.

        async with FakePropeller([host.address]) as propeller:
            task = propeller.submit("warehouse_query", {"sql": "select 1"})
            await propeller.run_until_settled()
            assert task.phase is Phase.SUCCEEDED

    Args:
        addresses: `host:port` of each replica of the default deployment; calls go round between them.
        deadline: seconds for each call to it, 3 unless given, and 10 from 2.0 on; `None` for none.
        deadlines: the same by method, where one differs.
        static_task_types: task types that the configuration sends there; they are called as async.
        supported_task_types: the configuration's `supportedTaskTypes`. Running tasks of types that are neither among them nor
            were listed in the first round fall to the container plugin, which fails them, once a poll does not list them.
            From 2.0 on they are all that is routed, to the default deployment; unless given, what is listed is.
        service_config: gRPC's service config for calls there, the engine's `defaultServiceConfig`.
        named: further deployments by name. Theirs are the addresses, and no deadlines unless a `Deployment` has some.
        max_attempts: how often a task is tried, where `submit` does not say it.
        engine_version: before 1.16 the engine does not understand RETRYABLE_FAILED; from 2.0 on it speaks the protocol's second
            generation, which has no sync calls and needs the extra `v2`.
        connection: what an engine of 2.0 and later sends with each call about a job.
        ping_every: seconds between the pings of a connection that has a call under way; the engine's v1 sends none, its v2
            every 30.
        workers: how many GetTask calls are made at once; the real engine makes 10, `None` is as many as there are jobs. A sync
            task whose answer was not final kills one of them in each round.
        pace: awaited after each round of `run_until_settled`, for tests that have to let something else go on.

    Attributes:
        faults: trouble on the engine's side of calls, to be planned by the test.
        routes: the routing table as it is.
        tasks: every task that was submitted.
    """

    def __init__(
        self,
        addresses: Sequence[str] = (),
        *,
        deadline: float | Literal["default"] | None = "default",
        deadlines: Mapping[str, float | None] | None = None,
        static_task_types: Sequence[str] = (),
        supported_task_types: Sequence[str] | None = None,
        service_config: Mapping[str, Any] | None = None,
        named: Mapping[str, Deployment | Sequence[str]] | None = None,
        max_attempts: int = 3,
        engine_version: tuple[int, int] = (1, 16),
        connection: Connection | None = None,
        ping_every: float | None = None,
        workers: int | None = None,
        workflow: Workflow = Workflow(),  # noqa: B008 - immutable
        pace: Callable[[], Awaitable[object]] = _AT_ONCE,
    ) -> None:
        self._speaks_v2 = engine_version >= SECOND_GENERATION_SINCE
        deployments = {
            name: given if isinstance(given, Deployment) else Deployment(given) for name, given in (named or {}).items()
        }
        if addresses:
            limit = DEFAULT_DEADLINES[self._speaks_v2] if deadline == "default" else deadline
            default = Deployment(addresses, limit, deadlines or {}, static_task_types, service_config)
            deployments = {DEFAULT: default, **deployments}
        if not deployments:
            raise ValueError("the engine has no server to call: give addresses, or named deployments")
        self.faults = Faults()
        self.routes = RoutingTable(deployments, is_of_v2=self._speaks_v2, supported=supported_task_types)
        self.tasks: list[EngineTask] = []
        self._prefixes: set[str] = set()
        self._wire = Wire(deployments, ping_every, "v2" if self._speaks_v2 else "v1", connection)
        self._workflow = workflow
        self._max_attempts = max_attempts
        self._rounds = Rounds(self._wire, self.routes, self.faults, engine_version, workers)
        self._pace = pace
        self._is_down = False
        self._in_flight: dict[EngineTask | None, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_down()

    def submit(
        self,
        template: TaskTemplate | str,
        inputs: Mapping[str, Any] | LiteralMap | None = None,
        *,
        path: str | None = None,
        workflow: Workflow | None = None,
        max_attempts: int | None = None,
    ) -> EngineTask:
        """Give the engine a task, which the next round starts.

        Args:
            template: the task, or just its type as `NAME` or `NAME@VERSION`.
            inputs: values by input name.
            path: the ids of the nodes that lead to the task, as in `"n0/n1"`; a node of its own unless given. Tasks whose
                paths end alike send the same task execution id, and differ in the output prefix only.
            workflow: the execution that it belongs to; all tasks share one unless given.
            max_attempts: how often it is tried.
        """
        return self._submit(template, inputs, path, workflow, max_attempts)

    def submit_map(
        self,
        template: TaskTemplate | str,
        inputs: Sequence[Mapping[str, Any] | LiteralMap],
        *,
        path: str | None = None,
        workflow: Workflow | None = None,
        max_attempts: int | None = None,
    ) -> list[EngineTask]:
        """Give the engine a map task, and return its subtasks: one for each of the inputs.

        All send the same task execution id. Their output prefixes, which end in their index and the attempt, tell them apart.
        """
        path = f"n{len(self.tasks)}" if path is None else path
        return [self._submit(template, one, path, workflow, max_attempts, index) for index, one in enumerate(inputs)]

    def _submit(
        self,
        template: TaskTemplate | str,
        inputs: Mapping[str, Any] | LiteralMap | None,
        path: str | None,
        workflow: Workflow | None,
        max_attempts: int | None,
        index: int | None = None,
    ) -> EngineTask:
        workflow = workflow or self._workflow
        completed = complete(_template(template), workflow)
        if self._speaks_v2 and isinstance(template, str):
            completed.custom.SetInParent()  # without it, this engine calls nobody
        task = EngineTask(
            completed,
            inputs if isinstance(inputs, LiteralMap) else to_literal_map(inputs or {}),
            workflow,
            f"n{len(self.tasks)}" if path is None else path,
            max_attempts or self._max_attempts,
            is_of_v2=self._speaks_v2,
            index=index,
        )
        if task.prefix in self._prefixes:
            raise ValueError(f"there is a task at {task.path!r} of this execution already")
        self._prefixes.add(task.prefix)
        self.tasks.append(task)
        return task

    def abort(self, task: EngineTask, *, times: int = 1) -> None:
        """Have a task ended as its user would; the next rounds send DeleteTask, `times` times, if there is a job.

        A settled task stays as it is, for the engine does nothing about it either; a stuck one can be aborted.
        """
        if not task.phase.is_terminal:
            task.deletes_to_come, task.begins_anew = times, False
            task.ends_as = Phase.ABORTED

    def time_out(self, task: EngineTask) -> None:
        """Let a task's own timeout pass: its job is deleted and the next attempt begun, if there is one.

        The engine's v2 deletes the job of the last attempt only.
        """
        if not task.is_settled:
            self._rounds.time_out(task)

    def forget(self, task: EngineTask) -> None:
        """Have the engine lose a task, as when its cluster is gone: nothing is ever called for it, not even DeleteTask."""
        task.is_forgotten = True

    async def run_until_settled(self, max_steps: int = 100) -> None:
        """Make rounds until no task has anything to come.

        Raises:
            AssertionError: that is not so after `max_steps` rounds; it says of each task how far it is.
        """
        for _ in range(max_steps):
            if not self._unsettled():
                return
            if not await self._step() and self._in_flight:  # all that is left is under way in an earlier round
                await asyncio.wait(self._in_flight.values(), return_when=asyncio.FIRST_COMPLETED)
            await self._pace()
        if waiting := self._unsettled():
            left = "\n".join(f"- {task}" for task in waiting)
            raise AssertionError(f"after {max_steps} rounds of the engine these tasks are not settled:\n{left}")

    async def step(self) -> None:
        """Make one round, and return when its calls have ended.

        A task whose call of an earlier round is still under way is left out, so that one round may begin before another
        is over.
        """
        await self._step()

    async def poll_connectors(self) -> None:
        """Ask every deployment what it serves and rebuild the routing table from nothing."""
        answers = []
        for deployment in self._wire.deployments:
            reply = await self.faults.around("ListAgents", None, partial(self._wire.list_agents, deployment))
            if reply.code is StatusCode.OK:
                answers.append((deployment, reply.message.agents))
        self.routes.rebuild(answers)

    async def get(self, task: EngineTask) -> Call:
        """Make one more GetTask call about a task's job. The engine learns nothing from it: it is the test that asks."""
        await self._rounds.get(task)
        return task.calls[-1]

    async def delete(self, task: EngineTask) -> Call:
        """Make one more DeleteTask call for a task's job, as `get` does."""
        await self._rounds.delete(task)
        return task.calls[-1]

    async def go_down(self) -> None:
        """Fall silent: calls under way are cut, and nothing that they would have taught the engine is saved."""
        self._is_down = True
        under_way = list(self._in_flight.values())
        for one in under_way:
            one.cancel()
        if under_way:
            await asyncio.wait(under_way)
        await self._wire.close()

    def come_back(self) -> None:
        """Go on after `go_down` where the saved state says."""
        self._is_down = False

    async def move(self, addresses: Sequence[str], deployment: str = DEFAULT) -> None:
        """Find a deployment at other addresses from now on, as when its DNS name has changed."""
        await self._wire.move(deployment, addresses)

    def _unsettled(self) -> list[EngineTask]:
        return [task for task in self.tasks if not task.is_forgotten and (task.deletes_to_come or not task.is_settled)]

    async def _step(self) -> bool:
        """Make one round; return whether there was a call about a task in it."""
        self._refuse_if_down()
        if None not in self._in_flight:
            await self._finish([self._begin(None, self.poll_connectors())])
        if self._is_down:
            return False
        for _ in [task for task in self.tasks if task.kills_workers and task.is_stuck and not task.is_forgotten]:
            self._rounds.lose_worker()
        free = [task for task in self._unsettled() if task not in self._in_flight]
        await self._finish([self._begin(task, self._rounds.advance(task)) for task in free])
        return bool(free)

    def _refuse_if_down(self) -> None:
        if self._is_down:
            raise RuntimeError("the engine is down: come_back() first")

    def _begin(self, key: EngineTask | None, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        one = self._in_flight[key] = asyncio.create_task(work)
        one.add_done_callback(lambda _: self._in_flight.pop(key))
        return one

    async def _finish(self, begun: list[asyncio.Task[None]]) -> None:
        if not begun:
            return
        try:
            await asyncio.wait(begun)
        except asyncio.CancelledError:
            for one in begun:
                one.cancel()
            raise
        for one in begun:
            if not one.cancelled():  # cut by go_down()
                one.result()


def _template(template: TaskTemplate | str) -> TaskTemplate:
    if isinstance(template, TaskTemplate):
        return template
    category = TaskCategory.parse(template)
    return TaskTemplate(type=category.name, task_type_version=category.version)
