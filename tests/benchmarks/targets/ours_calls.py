"""What is called besides GetTask: creates that use their inputs or do not, a sync task, and large outputs."""

from ours import NoopConnector, NoopMeta

from connector_core import Phase, Resource, SyncConnectorBase, hookimpl


class CreateConnector(NoopConnector):
    """Starts a job without a look at its inputs."""

    def __init__(self, name: str) -> None:
        self.name = self.task_type_name = name


class UsingConnector(CreateConnector):
    """Starts a job from its inputs."""

    async def create(self, inputs) -> NoopMeta:
        assert inputs
        return NoopMeta("job")


class LargeConnector(CreateConnector):
    """Answers as many letters as the resource meta says."""

    async def get(self, resource_meta: NoopMeta) -> Resource:
        return Resource(Phase.SUCCEEDED, outputs={"o0": "x" * int(resource_meta.job_id)})


class SyncConnector(SyncConnectorBase):
    """Answers at once."""

    name = task_type_name = "sync"

    async def do(self) -> Resource:
        return Resource(Phase.SUCCEEDED)


@hookimpl
def register_connectors():
    """Bring them all."""
    return [
        CreateConnector("create_unused"),
        UsingConnector("create_used"),
        LargeConnector("large"),
        SyncConnector(),
    ]
