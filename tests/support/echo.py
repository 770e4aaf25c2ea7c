"""Connectors that do nothing wrong and ask for all that there is, so that every argument is worked out."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core import AsyncConnectorBase, LogPage, Phase, Resource, ResourceMeta, SyncConnectorBase
from connector_core.connector import ConnectorBase
from connector_core.errors import InvalidResourceMetaError

_PHASES = tuple(Phase)


@dataclass
class EchoMeta(ResourceMeta):
    """A handle with a field of each kind."""

    job_id: str
    number: int = 0
    share: float = 0.5
    is_new: bool = False
    tags: list[str] = field(default_factory=list)
    note: str | None = None


@dataclass
class OwnMeta(ResourceMeta):
    """A handle that has a form of its own on the wire."""

    name: str

    def encode(self) -> bytes:
        """Return the name alone."""
        return b"own:" + self.name.encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the name."""
        if not data.startswith(b"own:"):
            raise InvalidResourceMetaError("the resource meta does not begin with 'own:'")
        return cls(data[4:].decode(errors="replace"))


class _Named:
    def __init__(self, task_type: str, version: int = 0) -> None:
        self.name = task_type
        self.task_type_name = task_type
        self.task_type_version = version


def _resource(meta: Any) -> Resource:
    text: str = getattr(meta, "job_id", "") or getattr(meta, "name", "")
    return Resource(_PHASES[len(text) % len(_PHASES)], outputs={"of_echo": len(text)}, message=text)


class Echo(_Named, AsyncConnectorBase[EchoMeta]):
    """Async code throughout."""

    async def create(self, **offered: Any) -> EchoMeta:
        return EchoMeta(str(len(offered["inputs"])))

    async def get(self, **offered: Any) -> Resource:
        return _resource(offered["resource_meta"])

    async def delete(self, **offered: Any) -> None:
        assert isinstance(offered["resource_meta"], EchoMeta)

    async def get_metrics(self, **offered: Any) -> list[ExecutionMetricResult]:
        return [ExecutionMetricResult(metric=query) for query in offered["queries"][:10]]

    async def get_logs(self, **offered: Any) -> AsyncIterator[str | LogPage]:
        yield offered["resource_meta"].job_id
        yield LogPage(("line",) * min(offered["lines"], 10), token="next" if offered["token"] else "")


class BlockingEcho(_Named, AsyncConnectorBase[OwnMeta]):
    """Plain functions throughout."""

    def create(self, **offered: Any) -> OwnMeta:
        return OwnMeta(str(len(offered["inputs"])))

    def get(self, **offered: Any) -> Resource:
        return _resource(offered["resource_meta"])

    def delete(self, **offered: Any) -> None:
        assert isinstance(offered["resource_meta"], OwnMeta)

    def get_metrics(self, **_offered: Any) -> Iterator[ExecutionMetricResult]:
        yield ExecutionMetricResult(metric="cpu")

    def get_logs(self, **offered: Any) -> Iterator[str]:
        yield offered["resource_meta"].name


class ManyEcho(_Named, AsyncConnectorBase[EchoMeta]):
    """Polled many jobs at a time, and without logs and metrics."""

    async def create(self, idempotency_key: str | None, output_prefix: str) -> EchoMeta:
        return EchoMeta(idempotency_key or output_prefix or "none")

    async def get(self, resource_meta: EchoMeta) -> Resource:
        return _resource(resource_meta)

    async def get_many(self, resource_metas: Sequence[EchoMeta]) -> list[Resource]:
        return [_resource(meta) for meta in resource_metas]

    async def delete(self, resource_meta: EchoMeta) -> None:
        return None


class SyncEcho(_Named, SyncConnectorBase):
    """A sync connector of async code."""

    async def do(self, **offered: Any) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"of_echo": len(offered["inputs"])})


class BlockingSyncEcho(_Named, SyncConnectorBase):
    """A sync connector of blocking code."""

    def do(self, **offered: Any) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"of_echo": len(offered["inputs"])})


def echoes() -> list[ConnectorBase]:
    """Return a connector of each kind; `vouched` is the one to run in place."""
    return [
        Echo("echo"),
        Echo("echo2", 2),
        Echo("vouched"),
        BlockingEcho("blocking"),
        ManyEcho("many"),
        SyncEcho("sync"),
        BlockingSyncEcho("blocking_sync"),
    ]
