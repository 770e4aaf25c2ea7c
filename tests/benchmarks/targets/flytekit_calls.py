"""The same for flytekit's own server, which converts inputs whether or not they are asked for."""

import flytekit_noop
from flyteidl.core.execution_pb2 import TaskExecution
from flytekit.extend.backend.base_connector import ConnectorRegistry, Resource, SyncConnectorBase


class LargeConnector(flytekit_noop.NoopConnector):
    async def get(self, resource_meta, **kwargs):
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"o0": "x" * int(resource_meta.job_id)})


class SyncConnector(SyncConnectorBase):
    def __init__(self, task_type):
        super().__init__(task_type_name=task_type)
        self.name = task_type

    async def do(self, task_template, output_prefix, inputs=None, **kwargs):
        return Resource(phase=TaskExecution.SUCCEEDED)


for name in ("create_unused", "create_used"):
    ConnectorRegistry.register(flytekit_noop.NoopConnector(name))
ConnectorRegistry.register(SyncConnector("sync"))
ConnectorRegistry.register(LargeConnector("large"))
