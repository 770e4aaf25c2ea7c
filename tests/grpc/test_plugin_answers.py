"""A plugin's wrong, endless or tampering answers cost the call that they are for, and nothing else."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.admin.agent_pb2 import LogLine, TaskExecutionMetadata
from flyteidl.admin.agent_pb2 import Resource as FlyteResource
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import LogLink, LogPage, PermanentError, Phase, Resource, TransientError
from connector_core.connector import ConnectorBase
from connector_core.literals import to_python_map
from connector_core.testing import RunningServer
from tests.fakes import Answers, Gate, JobMeta, Jobs, eventually, happens
from tests.support.faults import UnprintableError, failure, host_of, in_flight, read_logs
from tests.support.rpc import details_of

JOB = JobMeta("1").encode()
RUNNING = Phase.RUNNING
INTERNAL = grpc.StatusCode.INTERNAL
MB = 1_000_000


@dataclass
class OddMeta(JobMeta):
    """A resource meta whose `encode` does what a test says."""

    def encode(self) -> bytes:
        if self.job_id == "raises":
            raise RuntimeError("no more ids")
        return self.job_id  # type: ignore[return-value]


class Endless:
    """A value that contains itself."""

    def __init__(self) -> None:
        self.me = self


def deep_dict(depth: int = 5000) -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(depth):
        deep = {"x": deep}
    return deep


NO_RESOURCES: dict[str, Any] = {
    "nothing": None,
    "text": "RUNNING",
    "a phase": RUNNING,
    "the protocol's own message without a phase": FlyteResource(),
    "UNDEFINED": Resource(0),  # type: ignore[arg-type]
    "a phase that does not exist": Resource(99),  # type: ignore[arg-type]
    "a phase by name": Resource("RUNNING"),  # type: ignore[arg-type]
    "a message that is no text": Resource(RUNNING, message=5),  # type: ignore[arg-type]
    "outputs that are no mapping": Resource(Phase.SUCCEEDED, outputs=5),  # type: ignore[arg-type]
    "an output without a literal": Resource(Phase.SUCCEEDED, outputs={"x": object()}),
    "an output that contains itself": Resource(Phase.SUCCEEDED, outputs={"x": Endless()}),
    "log links that are none": Resource(RUNNING, log_links=["https://logs"]),  # type: ignore[list-item]
    "an error code that is no text": Resource(Phase.FAILED, error_code=5),  # type: ignore[arg-type]
}
NO_METAS: dict[str, Any] = {
    "nothing": None,
    "text": "job-1",
    "bytes": b"job-1",
    "a Resource": Resource(RUNNING),
    "a field of another type": JobMeta(5),  # type: ignore[arg-type]
    "encode() raises": OddMeta("raises"),
    "encode() gives text": OddMeta("text"),
}
NO_LOGS: dict[str, Any] = {
    "a number": 5,
    "bytes": [b"line"],
    "a page of numbers": LogPage((5,)),  # type: ignore[arg-type]
    "a page of one number": LogPage(5),  # type: ignore[arg-type]
    "a token that is no text": LogPage(("line",), token=5),  # type: ignore[arg-type]
}
NO_METRICS: dict[str, Any] = {"a number": 5, "numbers": [5], "text": "cpu"}


def returning(answer: Any) -> Any:
    async def method() -> Any:
        return answer

    return method


@pytest.mark.parametrize("answer", NO_RESOURCES.values(), ids=list(NO_RESOURCES))
async def test_what_is_no_resource_is_a_clear_failure_at_once_and_never_silence(answer: Any) -> None:
    method = returning(answer)
    connectors = [Jobs("bad", get=method), Jobs("blocking", get=lambda: answer), Answers("bad_do", do=method)]
    async with host_of(*connectors) as host:
        for operation, call in (
            ("get", host.get("bad", JOB)),
            ("get", host.get("blocking", JOB)),
            ("do", host.execute("bad_do")),
        ):
            error = await failure(call)
            assert error.code() is INTERNAL
            assert f"connector', {operation}(): returned " in details_of(error)


async def test_what_is_wrong_with_one_of_many_is_no_trouble_of_the_others() -> None:
    wrong = {
        **NO_RESOURCES,
        "an exception": ConnectionError("the backend hung up"),
        "a cancelled one": asyncio.CancelledError(),
        "an unprintable one": UnprintableError(),
        "an error of ours": PermanentError("it is lost"),
    }
    names = [*wrong, "good"]

    async def get_many(resource_metas: list[JobMeta]) -> list[Any]:
        return [wrong.get(one.job_id, Resource(RUNNING)) for one in resource_metas]

    async with host_of(Jobs("bad", get_many=get_many), deadlines={"get_many": 2, "get": 2}) as host:
        calls = [host.get("bad", JobMeta(name).encode(), timeout=2) for name in names]
        answers = dict(zip(names, await asyncio.gather(*calls, return_exceptions=True), strict=True))
    assert Phase(answers.pop("good").phase) is RUNNING  # type: ignore[union-attr]
    assert Phase(answers.pop("an error of ours").phase) is Phase.FAILED  # type: ignore[union-attr]
    for name in ("an exception", "a cancelled one", "an unprintable one"):
        resource = answers.pop(name)
        assert isinstance(resource, FlyteResource), name
        assert Phase(resource.phase) is RUNNING
        assert type(wrong[name]).__name__ in resource.message
    for name, error in answers.items():
        assert isinstance(error, grpc.aio.AioRpcError), name
        assert error.code() is INTERNAL
        assert "get_many(): returned " in details_of(error)


@pytest.mark.parametrize("answer", NO_METAS.values(), ids=list(NO_METAS))
async def test_what_is_no_resource_meta_is_a_clear_failure(answer: Any) -> None:
    async with host_of(Jobs("bad", create=returning(answer)), Jobs("blocking", create=lambda: answer)) as host:
        for task_type in ("bad", "blocking"):
            error = await failure(host.create(task_type))
            assert error.code() is INTERNAL
            assert details_of(error).startswith(f"plugin 'test-{task_type} connector', create(): ")


@pytest.mark.parametrize("answer", NO_LOGS.values(), ids=list(NO_LOGS))
async def test_what_is_no_log_page_is_a_clear_failure(answer: Any) -> None:
    def get_logs() -> Iterator[Any]:
        yield "first"
        yield answer

    async with host_of(Jobs("bad", get_logs=returning(answer)), Jobs("stream", get_logs=get_logs)) as host:
        for task_type in ("bad", "stream"):
            error = await failure(read_logs(host, task_type, JOB))
            assert error.code() is INTERNAL
            assert "get_logs()" in details_of(error)


@pytest.mark.parametrize("answer", NO_METRICS.values(), ids=list(NO_METRICS))
async def test_what_are_no_metrics_is_a_clear_failure(answer: Any) -> None:
    async with host_of(Jobs("bad", get_metrics=returning(answer))) as host:
        error = await failure(host.get_metrics("bad", JOB))
    assert error.code() is INTERNAL
    assert "get_metrics()" in details_of(error)


# 50 MB, to a client that receives what the engine does: 4 MiB

LONG = "x" * 50 * MB


@asynccontextmanager
async def as_the_engine(*connectors: ConnectorBase) -> AsyncIterator[RunningServer]:
    """Serve connectors, and call them through a channel with gRPC's own limits."""
    async with host_of(*connectors) as host, grpc.aio.insecure_channel(host.address) as channel:
        yield RunningServer(host.server, channel)


@pytest.mark.parametrize(
    "value", [float("nan"), 2**60, object(), deep_dict(), Endless()], ids=lambda value: type(value).__name__
)
async def test_custom_info_fails_no_poll_and_is_warned_of_once(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    connector = Jobs(get=lambda: Resource(RUNNING, message="at work", custom_info={"x": value, "y": 1}))
    async with host_of(connector) as host:
        answers = [await host.get("job", JOB) for _ in range(3)]
    assert [(answer.message, answer.custom_info["y"]) for answer in answers] == [("at work", 1)] * 3
    assert len([message for message in caplog.messages if "custom_info: 'x' is" in message]) == 1


async def test_a_task_s_custom_is_offered_with_its_whole_numbers() -> None:
    offered: list[Any] = []
    template = TaskTemplate(type="job")
    template.custom.update({"workers": 4, "share": 0.5, "nodes": [{"gpus": 2}], "none": None})

    def create(custom: dict[str, Any]) -> JobMeta:
        offered.append(custom)
        return JobMeta("1")

    async with host_of(Jobs(create=create)) as host:
        await host.create(template, {})
    (custom,) = offered
    assert custom == {"workers": 4, "share": 0.5, "nodes": [{"gpus": 2}], "none": None}
    assert (type(custom["workers"]), type(custom["nodes"][0]["gpus"])) == (int, int)


async def test_50_mb_of_outputs_are_a_failed_job_that_says_why() -> None:
    method = returning(Resource(Phase.SUCCEEDED, outputs={"x": LONG}))
    async with as_the_engine(Jobs("bad", get=method), Answers("bad_do", do=method)) as host:
        for resource in (await host.get("bad", JOB), await host.execute("bad_do")):
            assert Phase(resource.phase) is Phase.FAILED
            assert "the outputs make an answer of 50,000,1" in resource.message
            assert resource.agent_error.code == "OutputsTooLarge"


@pytest.mark.parametrize(
    "resource",
    [
        Resource(Phase.SUCCEEDED, message=LONG),
        Resource(Phase.SUCCEEDED, custom_info={"x": LONG}),
        Resource(Phase.SUCCEEDED, log_links=[LogLink("log", LONG)]),
        Resource(Phase.SUCCEEDED, log_links=[LogLink("log", LONG[:100])] * 300_000),
        Resource(Phase.SUCCEEDED, error_code=LONG),
    ],
    ids=["message", "custom info", "a log link", "log links", "error code"],
)
async def test_50_mb_beside_the_outputs_cost_the_job_nothing(resource: Resource) -> None:
    method = returning(resource)
    async with as_the_engine(Jobs("bad", get=method), Answers("bad_do", do=method)) as host:
        for answer in (await host.get("bad", JOB), await host.execute("bad_do")):
            assert Phase(answer.phase) is Phase.SUCCEEDED


async def test_a_resource_meta_of_50_mb_is_a_failed_job_and_the_job_itself_is_deleted() -> None:
    deleted: list[str] = []
    has_deleted = threading.Event()

    async def create() -> JobMeta:
        return JobMeta(LONG)

    async def delete(resource_meta: JobMeta) -> None:
        deleted.append(resource_meta.job_id)
        has_deleted.set()

    async with as_the_engine(Jobs("bad", create=create, delete=delete)) as host:
        resource_meta = await host.create("bad")
        resource = await host.get("bad", resource_meta)
        await happens(has_deleted)
    assert Phase(resource.phase) is Phase.FAILED
    assert "the resource meta takes 50,000,0" in resource.message
    assert resource.agent_error.code == "ResourceMetaTooLarge"
    assert [len(job_id) for job_id in deleted] == [len(LONG)]


@pytest.mark.parametrize(
    "answer",
    [LONG, [LONG[:MB]] * 50, LogLine(message=LONG), LogPage((LogLine(message=LONG[:1000]),) * 50_000)],
    ids=["a line", "lines", "a structured line", "structured lines"],
)
async def test_50_mb_of_logs_come_in_messages_that_fit(answer: Any) -> None:
    async with as_the_engine(Jobs("bad", get_logs=returning(answer))) as host:
        assert await read_logs(host, "bad", JOB)


@pytest.mark.parametrize("token", [LONG, "next \udc80"], ids=["50 MB", "lone surrogates"])
async def test_a_token_that_no_client_could_send_back_is_a_clear_failure(token: str) -> None:
    page = LogPage(("line",), token=token)
    async with as_the_engine(Jobs("bad", get_logs=returning(page))) as host:
        error = await failure(read_logs(host, "bad", JOB))
    assert error.code() is INTERNAL
    assert "get_logs()" in details_of(error)
    assert "token" in details_of(error)


async def test_50_mb_of_metrics_are_a_clear_failure() -> None:
    results = [ExecutionMetricResult(metric=LONG[:MB]) for _ in range(50)]
    async with as_the_engine(Jobs("bad", get_metrics=returning(results))) as host:
        error = await failure(host.get_metrics("bad", JOB))
    assert error.code() is INTERNAL
    assert "get_metrics()" in details_of(error)
    assert "50,000," in details_of(error)


# What a plugin does to the arguments that it is given, and to what it has answered


async def test_a_handle_that_get_has_altered_is_whole_again_at_the_next_try() -> None:
    seen: list[str] = []

    def get(resource_meta: JobMeta) -> Resource:
        seen.append(resource_meta.job_id)
        resource_meta.job_id = "another"
        if len(seen) == 1:
            raise TransientError("not yet")
        return Resource(RUNNING)

    async with host_of(Jobs("bad", get=get)) as host:
        await host.get("bad", JOB)
        await host.get("bad", JOB)
    assert seen == ["1", "1", "1"]


async def test_a_list_of_jobs_that_get_many_has_emptied_still_has_an_answer_for_each() -> None:
    def get_many(resource_metas: list[JobMeta]) -> list[Resource]:
        answers = [Resource(RUNNING, message=one.job_id) for one in resource_metas]
        resource_metas.clear()
        return answers

    async with host_of(Jobs("bad", get_many=get_many)) as host:
        metas = [JobMeta(str(number)).encode() for number in range(20)]
        answers = await asyncio.gather(*(host.get("bad", meta) for meta in metas))
    assert [answer.message for answer in answers] == [str(number) for number in range(20)]


async def test_an_attempt_that_rewrites_who_it_is_still_cleans_up_after_the_one_before_it() -> None:
    gate, deleted, has_deleted = Gate(), [], threading.Event()

    def create(
        task_template: TaskTemplate,
        inputs: dict[str, Any],
        literals: LiteralMap,
        task_execution_metadata: TaskExecutionMetadata,
    ) -> JobMeta:
        attempt = task_execution_metadata.task_execution_id.retry_attempt
        task_template.Clear()
        inputs.clear()
        literals.Clear()
        task_execution_metadata.task_execution_id.node_execution_id.node_id = "another"
        task_execution_metadata.task_execution_id.retry_attempt = 99
        if attempt == 0:
            gate.block()
        return JobMeta(f"job of attempt {attempt}")

    def delete(resource_meta: JobMeta) -> None:
        deleted.append(resource_meta.job_id)
        has_deleted.set()

    async with host_of(Jobs("bad", create=create, delete=delete)) as host:
        first = asyncio.create_task(create_attempt(host, 0))
        await gate.reached()
        first.cancel()  # its client has gone, and nobody hears of the job
        await eventually(lambda: not in_flight(host))
        gate.open()
        await gate.passed()
        second = await create_attempt(host, 1)
        await happens(has_deleted)
        assert deleted == ["job of attempt 0"]
        assert await create_attempt(host, 1) == second  # the engine has lost the answer, and asks once more


async def create_attempt(host: RunningServer, attempt: int) -> bytes:
    metadata = TaskExecutionMetadata()
    metadata.task_execution_id.node_execution_id.node_id = "n0"
    metadata.task_execution_id.retry_attempt = attempt
    return await host.create("bad", {"x": 1}, output_prefix=f"s3://data/n0/{attempt}", task_execution_metadata=metadata)


async def test_what_is_altered_after_it_was_answered_is_answered_as_it_was() -> None:
    outputs = {"x": "as it was"}

    async def get() -> Resource:
        return Resource(Phase.SUCCEEDED, outputs=outputs)

    connector = Jobs("bad", get=get)
    async with host_of(connector) as host:
        for _ in range(2):
            answer = await host.get("bad", JOB)
            assert to_python_map(answer.outputs) == {"x": "as it was"}
            outputs["x"] = "altered"
            connector.name = connector.task_type_name = "altered"
        assert "bad connector" in {agent.name for agent in await host.list_connectors()}
