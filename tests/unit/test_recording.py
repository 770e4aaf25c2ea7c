"""How a call ended is counted once, under what it was."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector_core.errors import BackendUnavailableError, InvalidInputError
from connector_core.metrics import Metrics
from connector_core.observing import recorder as module
from connector_core.observing.call_records import CallRecord
from connector_core.observing.recorder import CallRecording, Recorder
from connector_core.services.recording import Request, record_connector_stream


class Context:
    """What gRPC knows of a call."""

    def __init__(self, left: float | None = None) -> None:
        self.left = left

    def time_remaining(self) -> float | None:
        return self.left


class Servicer:
    """Streams one answer, and then waits for the client to go."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.heard: list[CallRecord] = []
        self.recorder = Recorder(self.metrics, self.heard.append)

    @record_connector_stream("do", task_type="answer")
    async def answers(self, raw: Any, request: Request) -> AsyncIterator[bytes]:
        yield b"a part"
        request.answered()
        yield b"the rest"

    def count(self, outcome: str, **labels: str) -> float:
        on_task = {"task_type": "answer", "operation": "do", **labels}
        return self.metrics.registry.get_sample_value(f"flyte_connector_requests_{outcome}", on_task) or 0


async def leave_after(servicer: Servicer, messages: int, context: Context) -> None:
    """Read so many messages, and go."""
    stream: Any = servicer.answers(None, context)
    for _ in range(messages):
        await anext(stream)
    await stream.aclose()


async def test_a_client_that_leaves_behind_the_whole_answer_counts_as_a_success() -> None:
    """The engine cancels each sync call when it has read its one message, which may overtake our notice of sending it."""
    servicer = Servicer()
    await leave_after(servicer, 2, Context())
    assert servicer.count("success_total") == 1
    assert servicer.count("in_flight") == 0


async def test_a_client_that_leaves_halfway_counts_as_cancelled() -> None:
    servicer = Servicer()
    await leave_after(servicer, 1, Context())
    assert servicer.count("failure_total", error_code="CANCELLED") == 1
    assert servicer.count("success_total") == 0


async def test_listeners_hear_of_each_call_once_when_it_has_ended() -> None:
    servicer = Servicer()
    await leave_after(servicer, 2, Context())
    await leave_after(servicer, 1, Context())
    assert [(record.operation, record.task_type, record.code) for record in servicer.heard] == [
        ("do", "answer", "OK"),
        ("do", "answer", "CANCELLED"),
    ]


@pytest.mark.parametrize(
    ("left", "code"),
    [(0.0, "DEADLINE_EXCEEDED"), (-1, "DEADLINE_EXCEEDED"), (0.02, "DEADLINE_EXCEEDED"), (2, "CANCELLED")],
)
async def test_a_cancellation_at_the_deadline_is_the_deadlines(left: float, code: str) -> None:
    """The client's clock strikes about when ours does, and its cancellation looks like any other."""
    servicer = Servicer()
    await leave_after(servicer, 1, Context(left))
    assert servicer.count("failure_total", error_code=code) == 1


async def test_a_cancelled_task_counts_once() -> None:
    servicer = Servicer()
    stream: Any = servicer.answers(None, Context())
    await anext(stream)
    with pytest.raises(asyncio.CancelledError):
        await stream.athrow(asyncio.CancelledError())
    assert servicer.count("failure_total", error_code="CANCELLED") == 1
    assert servicer.count("in_flight") == 0


# Failures by the caller's doing


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(Metrics())


def refuse(recorder: Recorder, operation: str = "do") -> None:
    """Have a call end that was refused for its caller's mistake."""
    mistake = InvalidInputError("no table of that name")
    mistake.__cause__ = KeyError("orders")
    CallRecording(recorder, operation, "answer").ended("INVALID_ARGUMENT", "abc", mistake, "no table")


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [line for line in caplog.records if line.name == "connector_core.calls" and line.levelno == level]


def test_a_callers_mistake_has_a_line_and_no_traceback(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "connector_core.calls"):
        refuse(recorder)
    (line,) = lines(caplog, logging.INFO)
    assert line.getMessage() == "do of answer answered INVALID_ARGUMENT [abc]: no table"
    assert line.exc_info is None


def test_a_failure_of_the_connector_keeps_its_traceback(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    failure = BackendUnavailableError("away")
    failure.__cause__ = ConnectionError("refused")
    CallRecording(recorder, "do", "answer").ended("UNAVAILABLE", "abc", failure, "away")
    (line,) = lines(caplog, logging.WARNING)
    assert line.exc_info is not None


def test_who_debugs_gets_the_traceback_of_a_callers_mistake(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "connector_core.calls"):
        refuse(recorder)
    assert caplog.records[0].exc_info is not None


def test_a_mistake_that_is_repeated_is_logged_a_few_times_and_then_counted(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module, "perf_counter", lambda: now)
    with caplog.at_level("INFO", "connector_core.calls"):
        for _ in range(500):
            refuse(recorder)
        assert len(lines(caplog, logging.INFO)) == 10
        now += 61
        refuse(recorder)
    assert "490 similar calls left out" in lines(caplog, logging.INFO)[-1].getMessage()


def test_mistakes_of_one_operation_leave_the_lines_of_others(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "connector_core.calls"):
        for _ in range(50):
            refuse(recorder)
        refuse(recorder, operation="create")
    assert lines(caplog, logging.INFO)[-1].getMessage().startswith("create of answer")


def test_callers_mistakes_are_counted_apart(recorder: Recorder) -> None:
    refuse(recorder)
    CallRecording(recorder, "do", "answer").ended("CANCELLED")
    CallRecording(recorder, "do", "answer").ended("UNAVAILABLE", "abc", BackendUnavailableError("away"), "away")
    labels = {"task_type": "answer", "operation": "do"}
    value = recorder.metrics.registry.get_sample_value
    assert value("flyte_connector_requests_callers_failure_total", labels) == 2
    assert value("flyte_connector_requests_failure_total", {**labels, "error_code": "INVALID_ARGUMENT"}) == 1


# One name for one job


def test_calls_about_a_job_have_the_name_of_its_create(recorder: Recorder) -> None:
    recorder.name_job("job", b"meta", "project/domain/run/n0/0", "s3://bucket/n0/0")
    for prefix in ("s3://bucket/n0/0", ""):
        assert recorder.job_name("job", b"meta", prefix) == "project/domain/run/n0/0"
    assert recorder.job_name("other", b"meta", "") == ""


def test_a_job_whose_create_was_elsewhere_is_called_by_its_prefix_from_its_first_poll_on(recorder: Recorder) -> None:
    assert recorder.job_name("job", b"meta", "") == ""
    assert recorder.job_name("job", b"meta", "s3://bucket/n0/0") == "s3://bucket/n0/0"
    assert recorder.job_name("job", b"meta", "") == "s3://bucket/n0/0"


def test_jobs_of_one_resource_meta_are_told_apart_by_their_prefixes(recorder: Recorder) -> None:
    recorder.name_job("job", b"meta", "first", "s3://bucket/1")
    recorder.name_job("job", b"meta", "second", "s3://bucket/2")
    assert recorder.job_name("job", b"meta", "s3://bucket/1") == "s3://bucket/1"
    assert recorder.job_name("job", b"meta", "s3://bucket/2") == "second"


def test_tasks_that_share_an_execution_are_told_apart_by_their_prefixes(recorder: Recorder) -> None:
    """The engine sends one execution for both uses of a sub-workflow."""
    names = [recorder.name_job("job", b"%d" % number, "run/n0/0", f"s3://bucket/{number}") for number in range(3)]
    assert names == ["run/n0/0", "s3://bucket/1", "s3://bucket/2"]
    assert [recorder.job_name("job", b"%d" % number, "") for number in range(3)] == names
    assert recorder.name_job("job", b"again", "run/n0/0", "s3://bucket/0") == "run/n0/0"


def test_names_of_jobs_are_bounded_and_those_that_are_polled_stay(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_JOBS", 3)
    recorder.name_job("job", b"polled", "polled", "")
    for number in range(5):
        recorder.name_job("job", b"%d" % number, str(number), "")
        assert recorder.job_name("job", b"polled", "") == "polled"
    assert [recorder.job_name("job", b"%d" % number, "") for number in range(5)] == ["", "", "", "3", "4"]
