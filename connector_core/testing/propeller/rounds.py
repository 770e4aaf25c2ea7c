"""What the engine does about one task in one round: start it, look at its job, or end it."""

import asyncio
import contextlib
from functools import partial
from typing import Any

from flyteidl.admin import agent_pb2
from grpc import StatusCode

from connector_core.resource import Phase
from connector_core.testing.propeller.faults import Faults, MakeCall
from connector_core.testing.propeller.phases import Verdict, read_resource
from connector_core.testing.propeller.routing import Route, RoutingTable
from connector_core.testing.propeller.tasks import Call, EngineTask
from connector_core.testing.propeller.wire import Reply, Wire

MAX_FAILED_GETS = 6
"""GetTask calls about one job that may fail before the engine stops asking."""
MAX_FAILED_ROUNDS = 10
"""Rounds of one task that may fail in a row before the engine ends its workflow."""


class Rounds:
    """Advances tasks, one call at a time.

    Args:
        workers: how many GetTask calls are made at once; `None` for no limit.
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
        self._workers = asyncio.Semaphore(workers) if workers else contextlib.nullcontext()

    async def advance(self, task: EngineTask) -> None:
        """Make the call that is next for a task."""
        if task.deletes_to_come:
            await self._end(task)
        elif task.attempt.resource_meta is None:
            await self._start(task)
        else:
            async with self._workers:
                await self._look(task)

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
            return Reply(reply.code, "but the stream's first message is no header with a resource")
        return reply

    async def _end(self, task: EngineTask) -> None:
        if task.phase.is_terminal:
            task.deletes_to_come = 0
        elif task.attempt.resource_meta is None:
            task.deletes_to_come = 0
            task.settle(task.ends_as, task.message)
        elif (await self.delete(task)).code is StatusCode.OK:
            task.deletes_to_come -= 1
            if not task.deletes_to_come:
                task.settle(task.ends_as, task.message)
        else:
            task.failed_rounds += 1
            if task.failed_rounds >= MAX_FAILED_ROUNDS:
                task.deletes_to_come = 0
                task.settle(task.ends_as, "the job could not be deleted, and the engine has given up")

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
        if reading.verdict is Verdict.UNREADABLE:
            _fail_round(task, f"the engine does not understand phase {resource.phase} with state {resource.state}")
            return reading.verdict
        task.failed_rounds = 0
        if reading.verdict is Verdict.RETRYABLE:
            _try_again(task, reading.message)
        elif reading.verdict is Verdict.FAILED:
            task.settle(Phase.FAILED, reading.message)
        else:
            task.phase, task.message = Phase(reading.phase), reading.message
            if reading.verdict is Verdict.SUCCEEDED:
                task.output_literals = resource.outputs
        return reading.verdict

    def _conclude_sync(self, task: EngineTask, resource: agent_pb2.Resource) -> None:
        task.error_code = resource.agent_error.code
        if self._conclude(task, resource, is_sync=True) is Verdict.GOES_ON:
            task.is_stuck = True  # there is no job that the engine could ask about


def _try_again(task: EngineTask, message: str) -> None:
    task.message = message
    if len(task.attempts) < task.max_attempts:
        task.begin_attempt()
    else:
        task.settle(Phase.FAILED, message)


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
