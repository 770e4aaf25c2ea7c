"""A task as the engine keeps it, with everything that happened to it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.identifier_pb2 import (
    TASK,
    Identifier,
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf import json_format
from grpc import StatusCode

from connector_core.literals import to_python_map
from connector_core.resource import Phase
from connector_core.task import TaskCategory


class Workflow(NamedTuple):
    """The execution that a task belongs to, and where the engine keeps its data."""

    project: str = "flyte"
    domain: str = "development"
    name: str = "execution"
    storage: str = "s3://bucket/metadata"

    @property
    def id(self) -> WorkflowExecutionIdentifier:
        """The protocol's message."""
        return WorkflowExecutionIdentifier(project=self.project, domain=self.domain, name=self.name)


@dataclass(frozen=True)
class Call:
    """One call about a task, as the engine saw it end.

    Attributes:
        method: the protocol's name of it, such as `"GetTask"`.
        attempt: which attempt of the task it was about.
        deployment: whom it went to.
        code: the status; what the engine itself lost or cut has the one that it saw.
        details: the status' text.
        resource: the state that was answered, for GetTask and ExecuteTaskSync.
    """

    method: str
    attempt: int
    deployment: str
    code: StatusCode
    details: str = ""
    resource: agent_pb2.Resource | None = None

    def __str__(self) -> str:
        shown = f"{self.method} {self.code.name}"
        return f"{shown} phase {self.resource.phase}" if self.resource is not None else shown


class Event(NamedTuple):
    """An event: the view of a task that a workflow's author gets.

    Attributes:
        attempt: the attempt's number.
        phase: of the protocol.
        message: from the connector.
        log_links: from the connector.
        custom_info: from the connector.
    """

    attempt: int
    phase: Phase
    message: str = ""
    log_links: Sequence[TaskLog] = ()
    custom_info: Mapping[str, Any] = {}


@dataclass
class Attempt:
    """One try at a task.

    Attributes:
        number: the engine's `retry_attempt`, from 0.
        task_execution_id: what the server is told; not unique between tasks of one execution.
        output_prefix: where this attempt's outputs go; ends in the attempt's number, which the engine's v2 counts from 1 there.
        resource_meta: the job's handle, once a CreateTask was answered OK and the engine has saved it.
        failed_gets: GetTask calls that failed, never counted back.
        has_status: whether a GetTask was ever answered.
    """

    number: int
    task_execution_id: TaskExecutionIdentifier
    output_prefix: str
    resource_meta: bytes | None = None
    failed_gets: int = 0
    has_status: bool = False


@dataclass(eq=False)
class EngineTask:
    """A task that was given to the engine; the engine changes it with each round.

    Attributes:
        phase: where the engine believes the task is: QUEUED until a status is read; at last SUCCEEDED, FAILED, or
            ABORTED where the test aborted it. A job's ABORTED and RETRYABLE_FAILED end as FAILED.
        message: what the workflow's author reads.
        error_code: the connector's own code of a failure; it arrives on the sync path only.
        is_stuck: the engine has stopped asking, and `phase` stays what it was for ever.
        is_forgotten: the engine has lost the task, and makes no call about it any more.
        phases: every phase that was answered and differed from the one before, as numbers of the protocol (UNDEFINED is 0).
        events: what the author was shown, in order. The engine's v1 sends an event only when the phase changes, and none for a
            phase that the attempt has been in before; v2 sends one for each answer.
        calls: every call about the task.
        attempts: every try at it; the last one is the current one.
        index: of a subtask of a map task.
    """

    template: TaskTemplate
    inputs: LiteralMap
    workflow: Workflow
    path: str
    max_attempts: int
    phase: Phase = Phase.QUEUED
    message: str = ""
    error_code: str = ""
    is_stuck: bool = False
    is_forgotten: bool = False
    phases: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    output_literals: LiteralMap | None = None
    failed_rounds: int = 0
    deletes_to_come: int = 0
    ends_as: Phase = Phase.ABORTED
    begins_anew: bool = False
    kills_workers: bool = False
    is_of_v2: bool = False
    index: int | None = None

    def __post_init__(self) -> None:
        self.begin_attempt()

    @property
    def category(self) -> TaskCategory:
        """The task category, by which the engine routes."""
        return TaskCategory(self.template.type, self.template.task_type_version)

    @property
    def attempt(self) -> Attempt:
        """The current attempt."""
        return self.attempts[-1]

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs as Python values; empty unless the task has succeeded with some."""
        return to_python_map(self.output_literals) if self.output_literals is not None else {}

    @property
    def is_settled(self) -> bool:
        """True if the engine will do nothing more about the task by itself."""
        return self.is_stuck or self.is_forgotten or self.phase.is_terminal

    @property
    def prefix(self) -> str:
        """The common beginning of the output prefixes of its attempts, which no other task shares."""
        workflow = self.workflow
        folder = f"{workflow.project}-{workflow.domain}-{workflow.name}"
        prefix = f"{workflow.storage.rstrip('/')}/{folder}/{self.path}/data/"
        return prefix if self.index is None else f"{prefix}{self.index}/"

    @property
    def has_attempts_left(self) -> bool:
        """True if another attempt may follow the current one."""
        return len(self.attempts) < self.max_attempts

    @property
    def declared_outputs(self) -> AbstractSet[str]:
        """The names of the outputs that its interface declares."""
        return self.template.interface.outputs.variables.keys()

    def calls_of(self, method: str) -> Sequence[Call]:
        """Return the calls of one method."""
        return [call for call in self.calls if call.method == method]

    def begin_attempt(self) -> None:
        """Queue the task (again), with the next `retry_attempt`."""
        number = len(self.attempts)
        execution_id = TaskExecutionIdentifier(
            task_id=None if self.is_of_v2 else self.template.id,
            # The protocol's node id is not qualified by the path to the node.
            node_execution_id=NodeExecutionIdentifier(
                node_id=self.path.rpartition("/")[2], execution_id=self.workflow.id
            ),
            retry_attempt=number,
        )
        folder = number + 1 if self.is_of_v2 else number  # the engine's v2 counts retries from 0, and folders from 1
        self.attempts.append(Attempt(number, execution_id, f"{self.prefix}{folder}"))
        self.phase = Phase.QUEUED
        self.failed_rounds = 0
        self.begins_anew = False

    def metadata(self) -> agent_pb2.TaskExecutionMetadata:
        """Return what the current attempt's server is told about it."""
        workflow = self.workflow
        return agent_pb2.TaskExecutionMetadata(
            task_execution_id=self.attempt.task_execution_id,
            namespace=f"{workflow.project}-{workflow.domain}",
            labels={"project": workflow.project, "domain": workflow.domain, "execution-id": workflow.name},
            k8s_service_account="default",
            max_attempts=self.max_attempts,
        )

    def settle(self, phase: Phase, message: str = "") -> None:
        """End the task."""
        self.phase, self.message, self.is_stuck = phase, message, False
        self.deletes_to_come = 0

    def show(self, phase: Phase, resource: agent_pb2.Resource) -> None:
        """Send an event about an answer, where the engine does."""
        message = "" if phase is Phase.RUNNING and not self.is_of_v2 else resource.message
        sent = [event.phase for event in self.events if event.attempt == self.attempt.number]
        if not self.is_of_v2 and (phase in sent or (phase is Phase.QUEUED and not sent)):
            return  # the event's version is always 0, and the task is queued from the engine's own event on
        custom_info = json_format.MessageToDict(resource.custom_info)
        self.events.append(Event(self.attempt.number, phase, message, tuple(resource.log_links), custom_info))

    def __str__(self) -> str:
        state = "stuck in " if self.is_stuck else ""
        calls = ", ".join(str(call) for call in self.calls[-5:]) or "no call"
        place = self.path if self.index is None else f"{self.path}[{self.index}]"
        return f"{self.category} at {place}: {state}{self.phase.name}, attempt {self.attempt.number}, after {calls}"


def complete(template: TaskTemplate, workflow: Workflow) -> TaskTemplate:
    """Return a copy with an id, where it has none."""
    completed = TaskTemplate()
    completed.CopyFrom(template)
    if not completed.HasField("id"):
        completed.id.CopyFrom(
            Identifier(
                resource_type=TASK,
                project=workflow.project,
                domain=workflow.domain,
                name=f"workflows.{template.type}",
                version="v1",
            )
        )
    return completed
