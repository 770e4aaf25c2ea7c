"""One round of the engine for one task: start it, look at its job, or end it."""

import asyncio
import contextlib
from functools import partial
from typing import Any

from flyteidl.admin import agent_pb2
from grpc import StatusCode

from connector_core.resource import Phase
from connector_core.testing.propeller.engine_tasks import Call, EngineTask
from connector_core.testing.propeller.phases import SECOND_GENERATION_SINCE, Verdict, read_resource
from connector_core.testing.propeller.planned_faults import Faults, MakeCall
from connector_core.testing.propeller.routing import Route, RoutingTable
from connector_core.testing.propeller.wire import Reply, Wire

MAX_FAILED_GETS = 6
"""GetTask calls about one job that may fail before the engine stops asking."""
MAX_FAILED_ROUNDS = 10
"""Rounds of one task that may fail in a row before the engine's v1 ends its workflow."""
MAX_SYSTEM_FAILURES = 3
"""Answers in a row that the engine's v2 may find no meaning in before it ends the task."""
MAX_FAILED_DELETES = 10
"""DeleteTask calls that may fail in a row before one more has the engine's v1 fail the execution; v2 never stops."""


class Rounds:
    """Advances tasks, one call at a time.

    Args:
        workers: how many GetTask calls are made at once; `None` for no limit. A sync task whose answer was not final kills one
            of them with each round, and without any no GetTask is made.
    """

    def __init__(
        self,
        wire: Wire,
        routes: RoutingTable,
        faults: Faults,
        engine_version: tuple[int, int],
        workers: int | None,
    ) -> None:
        self._wire = wire
        self._routes = routes
        self._faults = faults
        self._engine_version = engine_version
        self._is_v2 = engine_version >= SECOND_GENERATION_SINCE
        self._living_workers = workers
        self._workers = asyncio.Semaphore(workers) if workers else contextlib.nullcontext()

    async def advance(self, task: EngineTask) -> None:
        """Make the call that is next for a task."""
        if task.deletes_to_come:
            await self._end(task)
        elif task.attempt.resource_meta is None:
            await self._start(task)
        elif self._living_workers != 0:
            async with self._workers:
                await self._look(task)

    def lose_worker(self) -> None:
        """Let a worker die of an answer that it cannot take."""
        if self._living_workers:
            self._living_workers -= 1

    def time_out(self, task: EngineTask) -> None:
        """Let the task's own timeout pass."""
        had_job = task.attempt.resource_meta is not None
        message = "the task's timeout has passed"
        if not task.has_attempts_left:
            task.message, task.ends_as, task.deletes_to_come = message, Phase.FAILED, 1
        elif had_job and self._is_v2:
            task.message = message
            task.begin_attempt()
        else:
            _try_again(task, message)

    async def get(self, task: EngineTask) -> Reply:
        """Ask for the state of a task's job."""
        request = agent_pb2.GetTaskRequest(
            task_type=task.category.name,
            task_category=_category(task),
            resource_meta=_handle(task),
            output_prefix=task.attempt.output_prefix,
        )
        return await self._call_about_job(task, "GetTask", request)

    async def delete(self, task: EngineTask) -> Reply:
        """Ask for the end of a task's job; the request carries no output prefix."""
        request = agent_pb2.DeleteTaskRequest(
            task_type=task.category.name, task_category=_category(task), resource_meta=_handle(task)
        )
        return await self._call_about_job(task, "DeleteTask", request)

    async def _look(self, task: EngineTask) -> None:
        attempt = task.attempt
        if self._routes.has_fallen_to_container(task.category):
            task.settle(
                Phase.FAILED, f"no connector is known for {task.category.name!r}: the container plugin has the task"
            )
            return
        reply = await self.get(task)
        if reply.code is StatusCode.OK:
            attempt.has_status = True
            self._conclude(task, reply.message.resource)
            return
        attempt.failed_gets += 1
        if attempt.failed_gets < MAX_FAILED_GETS:
            return
        if attempt.has_status:
            task.is_stuck = True
        else:
            task.settle(Phase.FAILED, f"no status could be read: {reply.code.name} {reply.details}")

    async def _start(self, task: EngineTask) -> None:
        if self._is_v2 and not task.template.HasField("custom"):
            task.settle(Phase.FAILED, "the task template has no `custom`, without which this engine makes no call")
            return
        route = self._routes.for_new_task(task.category)
        if route is None:
            _fail_round(task, f"the engine knows no connector for task type {str(task.category)!r}")
            return
        reply = await (self._execute(task, route) if route.is_sync else self._create(task, route))
        if reply.code is not StatusCode.OK or reply.message is None:
            _try_again(task, f"{reply.code.name} {reply.details}")
        elif self._faults.prevents_saving(task):
            return
        elif route.is_sync:
            self._conclude_sync(task, reply.message.header.resource)
        else:
            task.attempt.resource_meta = reply.message.resource_meta
            task.failed_rounds = 0

    async def _create(self, task: EngineTask, route: Route) -> Reply:
        request = agent_pb2.CreateTaskRequest(
            template=task.template,
            inputs=task.inputs,
            output_prefix=task.attempt.output_prefix,
            task_execution_metadata=task.metadata(),
        )
        make_call = partial(self._wire.call, route.deployment, "CreateTask", request)
        return await self._call(task, "CreateTask", route.deployment, make_call)

    async def _execute(self, task: EngineTask, route: Route) -> Reply:
        header = agent_pb2.CreateRequestHeader(
            template=task.template,
            output_prefix=task.attempt.output_prefix,
            task_execution_metadata=task.metadata(),
        )
        make_call = partial(self._wire.execute, route.deployment, header, task.inputs)
        reply = await self._call(task, "ExecuteTaskSync", route.deployment, make_call)
        if reply.code is StatusCode.OK and (reply.message is None or not reply.message.HasField("header")):
            return Reply(reply.code, "but the stream's first message is not a header with a resource")
        return reply

    async def _end(self, task: EngineTask) -> None:
        if task.phase.is_terminal:
            task.deletes_to_come = 0
        elif task.attempt.resource_meta is None or self._routes.has_fallen_to_container(task.category):
            task.settle(task.ends_as, task.message)
        elif (await self.delete(task)).code is StatusCode.OK:
            task.failed_rounds = 0
            task.deletes_to_come -= 1
            if not task.deletes_to_come:
                self._is_deleted(task)
        else:
            task.failed_rounds += 1
            if task.failed_rounds > MAX_FAILED_DELETES and not self._is_v2:
                task.settle(Phase.FAILED, "abort failed: the job could not be deleted, and the engine has given up")

    def _is_deleted(self, task: EngineTask) -> None:
        if task.begins_anew:
            task.begin_attempt()
        else:
            task.settle(task.ends_as, task.message)

    async def _call_about_job(self, task: EngineTask, method: str, request: Any) -> Reply:
        route = self._routes.for_running_task(task.category)
        if route is None:
            reply = Reply(StatusCode.UNAVAILABLE, "the engine knows no connector for this task type any more")
            _record(task, method, "", reply)
            return reply
        make_call = partial(self._wire.call, route.deployment, method, request)
        return await self._call(task, method, route.deployment, make_call)

    async def _call(self, task: EngineTask, method: str, deployment: str, make_call: MakeCall) -> Reply:
        try:
            reply = await self._faults.around(method, task, make_call)
        except asyncio.CancelledError:
            _record(task, method, deployment, Reply(StatusCode.CANCELLED, "the engine fell silent"))
            raise
        _record(task, method, deployment, reply)
        return reply

    def _conclude(self, task: EngineTask, resource: agent_pb2.Resource, *, is_sync: bool = False) -> Verdict:
        reading = read_resource(resource, self._engine_version, is_sync=is_sync)
        if not task.phases or task.phases[-1] != reading.phase:
            task.phases.append(reading.phase)
        verdict = reading.verdict
        if verdict is Verdict.SUCCEEDED and not task.declared_outputs <= resource.outputs.literals.keys():
            verdict, missing = self._without_outputs, "the task has succeeded without all the outputs that it declares"
            reading = reading._replace(message=missing)
        elif verdict is not Verdict.UNREADABLE:
            task.show(Phase(reading.phase), resource)
        if verdict is Verdict.UNREADABLE:
            self._fail_to_read(task, resource, reading.message)
            return verdict
        task.failed_rounds = 0
        if verdict is Verdict.RETRYABLE:
            _try_again(task, reading.message)
        elif verdict is Verdict.FAILED:
            task.settle(Phase.FAILED, reading.message)
        else:
            task.phase, task.message = Phase(reading.phase), reading.message
            if verdict is Verdict.SUCCEEDED:
                task.output_literals = resource.outputs
        return verdict

    @property
    def _without_outputs(self) -> Verdict:
        return Verdict.UNREADABLE if self._is_v2 else Verdict.RETRYABLE

    def _fail_to_read(self, task: EngineTask, resource: agent_pb2.Resource, message: str) -> None:
        if not self._is_v2:
            _fail_round(task, f"the engine does not understand phase {resource.phase} with state {resource.state}")
            return
        task.message = message
        task.failed_rounds += 1
        if task.failed_rounds > MAX_SYSTEM_FAILURES:
            task.settle(Phase.FAILED, f"MaxSystemFailuresExceeded: {message}")

    def _conclude_sync(self, task: EngineTask, resource: agent_pb2.Resource) -> None:
        task.error_code = resource.agent_error.code
        if self._conclude(task, resource, is_sync=True) is Verdict.GOES_ON:
            # The engine has no job to ask about, and a worker dies of the answer that stands in its place.
            task.is_stuck = task.kills_workers = True


def _try_again(task: EngineTask, message: str) -> None:
    """Begin the next attempt, once the job of this one has been deleted where it had one; fail where there is none left."""
    task.message = message
    if not task.has_attempts_left:
        task.settle(Phase.FAILED, message)
    elif task.attempt.resource_meta is None:
        task.begin_attempt()
    else:
        task.deletes_to_come, task.begins_anew = 1, True


def _fail_round(task: EngineTask, message: str) -> None:
    task.message = message
    task.failed_rounds += 1
    if task.failed_rounds >= MAX_FAILED_ROUNDS:
        task.ends_as = Phase.FAILED
        task.deletes_to_come = 1


def _record(task: EngineTask, method: str, deployment: str, reply: Reply) -> None:
    resource = None
    if method == "GetTask" and reply.message is not None:
        resource = reply.message.resource
    elif method == "ExecuteTaskSync" and reply.message is not None:
        resource = reply.message.header.resource
    task.calls.append(Call(method, task.attempt.number, deployment, reply.code, reply.details, resource))


def _category(task: EngineTask) -> agent_pb2.TaskCategory:
    return agent_pb2.TaskCategory(name=task.category.name, version=task.category.version)


def _handle(task: EngineTask) -> bytes:
    if task.attempt.resource_meta is None:
        raise ValueError(f"there is no job to call about: {task}")
    return task.attempt.resource_meta
