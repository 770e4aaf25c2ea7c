"""Connectors as users of flytekit and of Flyte's SDK 2 write them, and what makes them this host's."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flytekit.extend.backend.base_connector as flytekit_sdk
from flyteidl.admin import agent_pb2
from flyteidl.core import metrics_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flytekit.exceptions.user import FlyteRecoverableException

from connector_core.connector import ConnectorBase
from connector_plugin_flyte.quiet import undisturbed
from connector_plugin_flytekit.connectors import bridged as bridged_flytekit

with undisturbed(), warnings.catch_warnings(action="ignore"):  # before anything else here imports the SDK
    import flyte.io  # noqa: F401 - what converts outputs imports it at its first use, in the middle of a test

    from connector_plugin_flyte.loading import bridged as bridged_flyte

import flyte.connectors as flyte_sdk
from flyteidl2.connector import connector_pb2
from flyteidl2.core import execution_pb2 as second_execution_pb2
from flyteidl2.core import metrics_pb2 as second_metrics_pb2
from flyteidl2.logs.dataplane import payload_pb2


@dataclass(frozen=True)
class Sdk:
    """An SDK whose connectors a bridge serves, and connectors that are written for it.

    Attributes:
        name: as the bridge is called.
        meta: the class of the twins' resource metas, like `tests.fakes.JobMeta`.
        twin: makes an async connector like `tests.fakes.Jobs`; each method may be replaced by a function given by name.
        logging_twin: makes one with the optional methods too, given as functions of a resource meta.
        resource: the SDK's class of a job's state.
        served: makes the host's connectors of them.
        passing: an error that passes, in the SDK's terms.
        logs: what `get_logs` gives: a token, two plain lines, one structured line.
        metrics: what `get_metrics` gives.
    """

    name: str
    meta: Callable[[str], Any]
    twin: Callable[..., Any]
    logging_twin: Callable[..., Any]
    resource: Callable[..., Any]
    served: Callable[..., list[ConnectorBase]]
    passing: Exception
    logs: tuple[Any, ...]
    metrics: Any


# --- flytekit ------------------------------------------------------------------------------------------------------


@dataclass
class FlytekitMeta(flytekit_sdk.ResourceMeta):
    """A job's handle with one field that has to be there and one that has a default."""

    job_id: str
    cluster: str = "main"


class FlytekitTwin(flytekit_sdk.AsyncConnectorBase):
    """An async connector written for flytekit."""

    def __init__(self, task_type: str = "job", **methods: Any) -> None:
        super().__init__(task_type_name=task_type, metadata_type=FlytekitMeta)
        self.name = f"{task_type} connector"
        for name, method in methods.items():
            setattr(self, name, method)

    async def create(self, task_template: Any, inputs: Any = None, **kwargs: Any) -> FlytekitMeta:
        literal = inputs.literals.get("id")
        return FlytekitMeta(literal.scalar.primitive.string_value if literal else "1")

    async def get(self, resource_meta: FlytekitMeta, **kwargs: Any) -> flytekit_sdk.Resource:
        return flytekit_sdk.Resource(phase=TaskExecution.SUCCEEDED, outputs={"id": resource_meta.job_id})

    async def delete(self, resource_meta: FlytekitMeta, **kwargs: Any) -> None:
        return None


class FlytekitLoggingTwin(FlytekitTwin):
    """A twin with the optional methods, which are the class's with flytekit."""

    def __init__(self, get_logs: Callable[..., Any], get_metrics: Callable[..., Any]) -> None:
        super().__init__("job")
        self._get_logs = get_logs
        self._get_metrics = get_metrics

    def get_logs(self, resource_meta: FlytekitMeta, **kwargs: Any) -> Any:
        return self._get_logs(resource_meta)

    async def get_metrics(self, resource_meta: FlytekitMeta, **kwargs: Any) -> Any:
        return self._get_metrics(resource_meta)


class FlytekitSyncTwin(flytekit_sdk.SyncConnectorBase):
    """A sync connector like `tests.fakes.Answers`; Flyte's SDK 2 has none."""

    def __init__(self, task_type: str = "answer") -> None:
        super().__init__(task_type_name=task_type)
        self.name = f"{task_type} connector"

    async def do(
        self, task_template: Any, output_prefix: str, inputs: Any = None, **kwargs: Any
    ) -> flytekit_sdk.Resource:
        return flytekit_sdk.Resource(phase=TaskExecution.SUCCEEDED, outputs=inputs)


def _served_flytekit(*theirs: FlytekitTwin | FlytekitSyncTwin) -> list[ConnectorBase]:
    return [bridged_flytekit(twin, twin.name) for twin in theirs]


FLYTEKIT = Sdk(
    name="flytekit",
    meta=FlytekitMeta,
    twin=FlytekitTwin,
    logging_twin=FlytekitLoggingTwin,
    resource=flytekit_sdk.Resource,
    served=_served_flytekit,
    passing=FlyteRecoverableException("come back"),
    logs=(
        agent_pb2.GetTaskLogsResponse(header=agent_pb2.GetTaskLogsResponseHeader(token="more")),
        agent_pb2.GetTaskLogsResponse(body=agent_pb2.GetTaskLogsResponseBody(results=["one", "two"])),
        agent_pb2.GetTaskLogsResponse(
            body=agent_pb2.GetTaskLogsResponseBody(structured_lines=[agent_pb2.LogLine(message="three")])
        ),
    ),
    metrics=agent_pb2.GetTaskMetricsResponse(results=[metrics_pb2.ExecutionMetricResult(metric="cpu")]),
)


# --- Flyte's SDK 2 -------------------------------------------------------------------------------------------------


@dataclass
class FlyteMeta(flyte_sdk.ResourceMeta):
    """A job's handle with one field that has to be there and one that has a default."""

    job_id: str
    cluster: str = "main"


class FlyteTwin(flyte_sdk.AsyncConnector[FlyteMeta]):
    """An async connector written for Flyte's SDK 2."""

    metadata_type = FlyteMeta

    def __init__(self, task_type: str = "job", **methods: Any) -> None:
        self.name = f"{task_type} connector"
        self.task_type_name = task_type
        for name, method in methods.items():
            setattr(self, name, method)

    async def create(self, task_template: Any, inputs: Any = None, **kwargs: Any) -> FlyteMeta:  # type: ignore[override]
        return FlyteMeta(str(inputs.get("id", "1")))

    async def get(self, resource_meta: FlyteMeta, **kwargs: Any) -> flyte_sdk.Resource:
        return flyte_sdk.Resource(
            phase=second_execution_pb2.TaskExecution.SUCCEEDED, outputs={"id": resource_meta.job_id}
        )

    async def delete(self, resource_meta: FlyteMeta, **kwargs: Any) -> None:
        return None


class FlyteLoggingTwin(FlyteTwin):
    """A twin with the optional methods, which are the class's with the SDK."""

    def __init__(self, get_logs: Callable[..., Any], get_metrics: Callable[..., Any]) -> None:
        super().__init__("job")
        self._get_logs = get_logs
        self._get_metrics = get_metrics

    async def get_logs(self, resource_meta: FlyteMeta, **kwargs: Any) -> AsyncIterator[Any]:
        for message in self._get_logs(resource_meta):
            yield message

    async def get_metrics(self, resource_meta: FlyteMeta, **kwargs: Any) -> Any:
        return self._get_metrics(resource_meta)


def _served_flyte(*theirs: FlyteTwin) -> list[ConnectorBase]:
    return [*bridged_flyte(theirs)]


FLYTE = Sdk(
    name="flyte",
    meta=FlyteMeta,
    twin=FlyteTwin,
    logging_twin=FlyteLoggingTwin,
    resource=flyte_sdk.Resource,
    served=_served_flyte,
    passing=ConnectionError("away"),
    logs=(
        connector_pb2.GetTaskLogsResponse(header=connector_pb2.GetTaskLogsResponseHeader(token="more")),
        connector_pb2.GetTaskLogsResponse(body=connector_pb2.GetTaskLogsResponseBody(results=["one", "two"])),
        connector_pb2.GetTaskLogsResponse(
            body=connector_pb2.GetTaskLogsResponseBody(lines=[payload_pb2.LogLine(message="three")])
        ),
    ),
    metrics=connector_pb2.GetTaskMetricsResponse(results=[second_metrics_pb2.ExecutionMetricResult(metric="cpu")]),
)


# --- Methods -------------------------------------------------------------------------------------------------------


def blocking(function: Callable[[], Any]) -> Callable[..., Any]:
    """Return a method, for whatever arguments, that occupies its thread."""

    def method(**_arguments: Any) -> Any:
        return function()

    return method


def asynchronous(function: Callable[[], Any]) -> Callable[..., Any]:
    """Return an `async def`, for whatever arguments, that runs the function on its loop, and awaits what there is to."""

    async def method(**_arguments: Any) -> Any:
        answer = function()
        return await answer if asyncio.iscoroutine(answer) else answer

    return method


def scripted(answers: Iterable[Any]) -> Callable[[], Any]:
    """Return a function that answers, or raises, one thing after the other, and the last one for ever."""
    left = list(answers)

    def answer() -> Any:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return answer
