"""The same connectors for flyte 2's server; runs in an environment that has flyte."""

import time
from dataclasses import dataclass

from flyte.connectors import AsyncConnector, ConnectorRegistry, Resource, ResourceMeta
from flyteidl2.core.execution_pb2 import TaskExecution
from offences import BRIEF, LONG


@dataclass
class NoopMeta(ResourceMeta):
    job_id: str


class NoopConnector(AsyncConnector):
    metadata_type = NoopMeta

    def __init__(self, task_type):
        self.name = self.task_type_name = task_type

    async def create(self, task_template, output_prefix, inputs=None, task_execution_metadata=None, **kwargs):
        return NoopMeta("job")

    async def get(self, resource_meta, **kwargs):
        return Resource(phase=TaskExecution.RUNNING)

    async def delete(self, resource_meta, **kwargs):
        pass


class BlockingConnector(NoopConnector):
    """Its base has `async def` only, so that this is all an author can do."""

    async def create(self, task_template, output_prefix, inputs=None, task_execution_metadata=None, **kwargs):
        time.sleep(LONG)  # noqa: ASYNC251 - the mistake itself
        return NoopMeta("job")

    async def get(self, resource_meta, **kwargs):
        time.sleep(BRIEF)  # noqa: ASYNC251 - the same
        return Resource(phase=TaskExecution.RUNNING)


for name in ("noop_1", "noop_2", "create_unused", "create_used"):
    ConnectorRegistry.register(NoopConnector(name))
for name in ("blocking", "wrongly_async"):
    ConnectorRegistry.register(BlockingConnector(name))
