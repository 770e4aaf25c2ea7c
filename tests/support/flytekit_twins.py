"""Connectors as flytekit's users write them, and what makes them this host's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flyteidl.core.execution_pb2 import TaskExecution
from flytekit.extend.backend.base_connector import AsyncConnectorBase, Resource, ResourceMeta, SyncConnectorBase

from connector_core.connector import ConnectorBase
from connector_plugin_flytekit.connectors import bridged


@dataclass
class TwinMeta(ResourceMeta):
    """As `tests.fakes.JobMeta`."""

    job_id: str
    cluster: str = "main"


class Twin(AsyncConnectorBase):
    """As `tests.fakes.Jobs`, written for flytekit; each method may be replaced by a function given here."""

    def __init__(self, task_type: str = "job", **methods: Any) -> None:
        super().__init__(task_type_name=task_type, metadata_type=TwinMeta)
        self.name = f"{task_type} connector"
        for name, method in methods.items():
            setattr(self, name, method)

    async def create(self, task_template: Any, inputs: Any = None, **kwargs: Any) -> TwinMeta:
        literal = inputs.literals.get("id")
        return TwinMeta(literal.scalar.primitive.string_value if literal else "1")

    async def get(self, resource_meta: TwinMeta, **kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"id": resource_meta.job_id})

    async def delete(self, resource_meta: TwinMeta, **kwargs: Any) -> None:
        return None


class LoggingTwin(Twin):
    """A twin with the optional methods, which are the class's with flytekit."""

    def __init__(self, get_logs: Callable[..., Any], get_metrics: Callable[..., Any]) -> None:
        super().__init__("job")
        self._get_logs = get_logs
        self._get_metrics = get_metrics

    def get_logs(self, resource_meta: TwinMeta, **kwargs: Any) -> Any:
        return self._get_logs(resource_meta)

    async def get_metrics(self, resource_meta: TwinMeta, **kwargs: Any) -> Any:
        return self._get_metrics(resource_meta)


class SyncTwin(SyncConnectorBase):
    """As `tests.fakes.Answers`, written for flytekit."""

    def __init__(self, task_type: str = "answer", **methods: Any) -> None:
        super().__init__(task_type_name=task_type)
        self.name = f"{task_type} connector"
        for name, method in methods.items():
            setattr(self, name, method)

    async def do(self, task_template: Any, output_prefix: str, inputs: Any = None, **kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=inputs)


def served(*theirs: Twin | SyncTwin) -> list[ConnectorBase]:
    """Return them as connectors of the host."""
    return [bridged(one, one.name) for one in theirs]


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
