"""Two connectors that do nothing, for this host."""

from dataclasses import dataclass

from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl


@dataclass
class NoopMeta(ResourceMeta):
    """The same handle as the peer's."""

    job_id: str


class NoopConnector(AsyncConnectorBase[NoopMeta]):
    """Answers at once."""

    def __init__(self, number: int) -> None:
        self.name = f"Noop {number}"
        self.task_type_name = f"noop_{number}"

    async def create(self) -> NoopMeta:
        return NoopMeta("job")

    async def get(self) -> Resource:
        return Resource(Phase.RUNNING)

    async def delete(self) -> None:
        pass


@hookimpl
def register_connectors() -> list[NoopConnector]:
    """Bring two."""
    return [NoopConnector(1), NoopConnector(2)]
