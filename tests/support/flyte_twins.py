"""Connectors as users of Flyte's SDK 2 write them, and what makes them this host's."""

import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from connector_core.connector import ConnectorBase
from connector_plugin_flyte.quiet import undisturbed

with undisturbed(), warnings.catch_warnings(action="ignore"):  # before anything else here imports the SDK
    from connector_plugin_flyte.loading import bridged

from flyte.connectors import AsyncConnector, Resource, ResourceMeta
from flyteidl2.core.execution_pb2 import TaskExecution

__all__ = ["LoggingTwin", "Resource", "Twin", "TwinMeta", "served"]


@dataclass
class TwinMeta(ResourceMeta):
    """As `tests.fakes.JobMeta`."""

    job_id: str
    cluster: str = "main"


class Twin(AsyncConnector[TwinMeta]):
    """As `tests.fakes.Jobs`, written for the SDK; each method may be replaced by a function given here."""

    metadata_type = TwinMeta

    def __init__(self, task_type: str = "job", **methods: Any) -> None:
        self.name = f"{task_type} connector"
        self.task_type_name = task_type
        for name, method in methods.items():
            setattr(self, name, method)

    async def create(self, task_template: Any, inputs: Any = None, **kwargs: Any) -> TwinMeta:  # type: ignore[override]
        return TwinMeta(str(inputs.get("id", "1")))

    async def get(self, resource_meta: TwinMeta, **kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"id": resource_meta.job_id})

    async def delete(self, resource_meta: TwinMeta, **kwargs: Any) -> None:
        return None


class LoggingTwin(Twin):
    """A twin with the optional methods, which are the class's with the SDK."""

    def __init__(self, get_logs: Callable[..., Any], get_metrics: Callable[..., Any]) -> None:
        super().__init__("job")
        self._get_logs = get_logs
        self._get_metrics = get_metrics

    async def get_logs(self, resource_meta: TwinMeta, **kwargs: Any) -> AsyncIterator[Any]:
        for message in self._get_logs(resource_meta):
            yield message

    async def get_metrics(self, resource_meta: TwinMeta, **kwargs: Any) -> Any:
        return self._get_metrics(resource_meta)


def served(*theirs: Twin) -> list[ConnectorBase]:
    """Return them as connectors of the host."""
    return [*bridged(theirs)]
