"""Connectors that do nothing, and some that block, for this host; the same as `flytekit_noop` for its peer."""

import time
from dataclasses import dataclass

from offences import BRIEF, LONG

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


class PlainConnector(NoopConnector):
    """Answers at once, from a plain function, which has to get a thread."""

    def __init__(self) -> None:
        self.name = self.task_type_name = "plain"

    def get(self) -> Resource:  # type: ignore[override] # plain or async, as the author likes
        return Resource(Phase.RUNNING)


class BlockingConnector(NoopConnector):
    """Blocks in plain functions: long in create, briefly in get."""

    def __init__(self) -> None:
        self.name = self.task_type_name = "blocking"

    def create(self) -> NoopMeta:
        time.sleep(LONG)
        return NoopMeta("job")

    def get(self) -> Resource:
        time.sleep(BRIEF)
        return Resource(Phase.RUNNING)


class WronglyAsyncConnector(NoopConnector):
    """Blocks in an `async def`, as authors do by mistake."""

    def __init__(self) -> None:
        self.name = self.task_type_name = "wrongly_async"

    async def create(self) -> NoopMeta:
        time.sleep(LONG)  # noqa: ASYNC251 - the mistake itself
        return NoopMeta("job")


@hookimpl
def register_connectors() -> list[NoopConnector]:
    """Bring those that do nothing."""
    return [NoopConnector(1), NoopConnector(2)]
