"""A plugin's wrong, endless or tampering answers cost the call that they are for, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from flyteidl.admin.agent_pb2 import Resource as FlyteResource
from flyteidl.core.execution_pb2 import TaskExecution

from connector_core import LogPage, Phase, Resource
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.faults import failure, host_of, read_logs
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
    "the protocol's own message": FlyteResource(phase=TaskExecution.RUNNING),
    "UNDEFINED": Resource(0),  # type: ignore[arg-type]
    "a phase that does not exist": Resource(99),  # type: ignore[arg-type]
    "a phase by name": Resource("RUNNING"),  # type: ignore[arg-type]
    "a message that is no text": Resource(RUNNING, message=5),  # type: ignore[arg-type]
    "outputs that are no mapping": Resource(Phase.SUCCEEDED, outputs=5),  # type: ignore[arg-type]
    "an output without a literal": Resource(Phase.SUCCEEDED, outputs={"x": object()}),
    "an output that contains itself": Resource(Phase.SUCCEEDED, outputs={"x": Endless()}),
    "log links that are none": Resource(RUNNING, log_links=["https://logs"]),  # type: ignore[list-item]
    "custom info that is no JSON": Resource(RUNNING, custom_info={"x": object()}),
    "custom info that is endlessly deep": Resource(RUNNING, custom_info=deep_dict()),
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
