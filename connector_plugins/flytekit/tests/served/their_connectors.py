"""Connectors as flytekit's users write them: nothing in here knows of the host, and flytekit's server serves it as well."""
# mypy: ignore-errors

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import flytekit
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flytekit import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.extend.backend.base_connector import (
    AsyncConnectorBase,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
    SyncConnectorBase,
)
from flytekit.extend.backend.utils import get_connector_secret
from flytekit.models.literals import LiteralMap
from flytekit.models.task import TaskExecutionMetadata, TaskTemplate


@dataclass
class Step:
    number: int
    title: str = "first"


@dataclass
class JobMeta(ResourceMeta):
    job_id: str
    prefix: str
    labels: dict | None = None
    step: Step = field(default_factory=lambda: Step(1))


def _native(inputs: LiteralMap | None, template: TaskTemplate) -> dict[str, Any]:
    types = TypeEngine.guess_python_types(template.interface.inputs)
    return TypeEngine.literal_map_to_kwargs(FlyteContextManager.current_context(), inputs, types)


class AsyncJobs(AsyncConnectorBase):
    """Everything `async def`, metadata as JSON, native outputs."""

    name = "Their Async Jobs"

    def __init__(self) -> None:
        super().__init__(task_type_name="their_async", metadata_type=JobMeta)

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: LiteralMap | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> JobMeta:
        await asyncio.sleep(0)
        assert not kwargs
        assert isinstance(task_execution_metadata, TaskExecutionMetadata)
        return JobMeta(
            job_id=inputs.literals["id"].scalar.primitive.string_value,
            prefix=output_prefix,
            labels={"ü": task_template.custom["ü"], "unit": task_execution_metadata.labels.get("unit")},
        )

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        assert isinstance(resource_meta, JobMeta)
        assert isinstance(resource_meta.step, Step)
        return Resource(
            phase=TaskExecution.SUCCEEDED,
            message=resource_meta.job_id,
            outputs={"number": 3, "text": "täxt", "map": {"a": [1.5]}, "step": resource_meta.step},
            log_links=[TaskLog(name="dashboard", uri="https://example.test/1", message_format=TaskLog.CSV)],
            custom_info={"job": {"id": resource_meta.job_id, "tries": [1, 2]}},
        )

    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        assert isinstance(resource_meta, JobMeta)


@dataclass
class PickledMeta(ResourceMeta):
    job_id: str
    when: Any = None

    def encode(self) -> bytes:
        return cloudpickle.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> "PickledMeta":
        return cloudpickle.loads(data)


class BlockingJobs(AsyncConnectorBase):
    """Plain functions, some of which take no `**kwargs`; pickled metadata; outputs as literals."""

    name = "Their Blocking Jobs"

    def __init__(self) -> None:
        super().__init__(task_type_name="their_blocking", task_type_version=2, metadata_type=PickledMeta)

    def create(self, task_template: TaskTemplate, inputs: LiteralMap | None = None, **kwargs: Any) -> PickledMeta:
        time.sleep(0)
        return PickledMeta(f"{task_template.type}-{_native(inputs, task_template)['id']}", when=(1, {2}))

    def get(self, resource_meta: PickledMeta, **kwargs: Any) -> Resource:
        assert resource_meta.when == (1, {2})
        context = FlyteContextManager.current_context()
        outputs = TypeEngine.dict_to_literal_map(context, {"id": resource_meta.job_id})
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=outputs)

    def delete(self, resource_meta: PickledMeta, **kwargs: Any) -> None:
        pass


class Terse(AsyncConnectorBase):
    """Methods that take no more than they need, which flytekit's server cannot call."""

    name = "Their Terse Jobs"

    def __init__(self) -> None:
        super().__init__(task_type_name="their_terse", metadata_type=PickledMeta)

    async def create(self, task_template: TaskTemplate) -> PickledMeta:
        return PickledMeta(task_template.type)

    def get(self, resource_meta: PickledMeta, output_prefix: str) -> Resource:
        return Resource(phase=TaskExecution.RUNNING, message=f"{resource_meta.job_id} to {output_prefix}")

    async def delete(self, resource_meta: PickledMeta) -> None:
        pass


class Answers(SyncConnectorBase):
    """Says what its code finds around it."""

    name = "Their Answers"

    def __init__(self) -> None:
        super().__init__(task_type_name="their_answers")

    async def do(
        self, task_template: TaskTemplate, output_prefix: str, inputs: LiteralMap | None = None, **kwargs: Any
    ) -> Resource:
        assert not kwargs
        return Resource(
            phase=TaskExecution.SUCCEEDED, outputs=inputs, message=f"{task_template.type} to {output_prefix}"
        )


class Contexts(SyncConnectorBase):
    """Blocks; pushes contexts as flytekit's own code does, and says what it saw of them."""

    name = "Their Contexts"
    together = threading.Barrier(2)

    def __init__(self) -> None:
        super().__init__(task_type_name="their_contexts")

    def do(self, task_template: TaskTemplate, inputs: LiteralMap | None = None, **kwargs: Any) -> Resource:
        depth = FlyteContextManager.size()
        with FlyteContextManager.with_context(FlyteContextManager.current_context().with_new_compilation_state()):
            self.together.wait(20)
            within = FlyteContextManager.size()
            self.together.wait(20)
        flytekit.current_context().decks.append("a deck of this call")
        decks = len(flytekit.current_context().decks)
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"depth": depth, "within": within, "decks": decks})


class Secrets(SyncConnectorBase):
    """Answers a secret, which no connector should."""

    name = "Their Secrets"

    def __init__(self) -> None:
        super().__init__(task_type_name="their_secrets")

    async def do(self, task_template: TaskTemplate, inputs: LiteralMap | None = None, **kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"secret": get_connector_secret("their_token")})


for _connector in (AsyncJobs, BlockingJobs, Terse, Answers, Contexts, Secrets):
    ConnectorRegistry.register(_connector())
