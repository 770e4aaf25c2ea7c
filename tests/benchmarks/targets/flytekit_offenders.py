"""The same connectors that block, for flytekit's own server."""

import time

import flytekit_noop
from flyteidl.core.execution_pb2 import TaskExecution
from flytekit.extend.backend.base_connector import ConnectorRegistry, Resource
from offences import BRIEF, LONG


class PlainConnector(flytekit_noop.NoopConnector):
    def get(self, resource_meta, **kwargs):
        return Resource(phase=TaskExecution.RUNNING)


class BlockingConnector(flytekit_noop.NoopConnector):
    def create(self, task_template, inputs=None, **kwargs):
        time.sleep(LONG)
        return flytekit_noop.NoopMeta("job")

    def get(self, resource_meta, **kwargs):
        time.sleep(BRIEF)
        return Resource(phase=TaskExecution.RUNNING)


class WronglyAsyncConnector(flytekit_noop.NoopConnector):
    async def create(self, task_template, inputs=None, **kwargs):
        time.sleep(LONG)  # noqa: ASYNC251 - the mistake itself
        return flytekit_noop.NoopMeta("job")


ConnectorRegistry.register(PlainConnector("plain"))
ConnectorRegistry.register(BlockingConnector("blocking"))
ConnectorRegistry.register(WronglyAsyncConnector("wrongly_async"))
