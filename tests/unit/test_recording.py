"""How a call ended is counted once, under what it was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector_core.metrics import Metrics
from connector_core.observing.call_records import CallRecord
from connector_core.observing.recorder import Recorder
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
