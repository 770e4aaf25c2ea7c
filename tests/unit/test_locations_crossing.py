"""Offers, answers and errors are the same on the other side."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.metrics_pb2 import ExecutionMetricResult

from connector_core import errors
from connector_core.connection import Connection
from connector_core.errors import ConnectorError, Fault, InPoll, PermanentError, RateLimitedError
from connector_core.invocation.offers import NOTHING, JobOffer, ManyOffer, Offer, TaskOffer
from connector_core.literals import to_literal_map
from connector_core.locations.crossing import (
    read_answer,
    read_error,
    read_offer,
    read_request,
    write_answer,
    write_call,
    write_error,
)
from connector_core.locations.heads import AnswerHead, CallHead, ErrorHead, from_json, to_json
from connector_core.locations.wire import WireError
from connector_core.observing.call_records import REQUEST, Subject
from connector_core.resource import LogPage
from connector_core.secrets import SecretStr

CONNECTION = Connection({"password": SecretStr("x")}, {"account": "a"}, "job")
INPUTS = to_literal_map({"n": 1})


def crossed(operation: str, offer: Offer, end: float = math.inf) -> tuple[CallHead, Any]:
    written, parts = write_call(7, operation, offer, end, streams=False)
    head: CallHead = from_json(to_json(written), CallHead)
    return head, read_offer(head, b"".join(parts))


def crossed_answer(operation: str, answer: Any) -> Any:
    written, parts = write_answer(operation, answer)
    return read_answer(from_json(to_json(written), AnswerHead), b"".join(parts))


def crossed_error(error: ConnectorError) -> ConnectorError:
    return read_error(from_json(to_json(write_error(error)), ErrorHead))


@pytest.mark.parametrize("has_inputs_apart", [False, True])
def test_a_task_crosses_with_its_key_and_connection(has_inputs_apart: bool) -> None:
    message = agent_pb2.CreateTaskRequest(output_prefix="s3://x/0", inputs=None if has_inputs_apart else INPUTS)
    message.template.type = "job"
    sent = TaskOffer(message, INPUTS if has_inputs_apart else message.inputs, CONNECTION)
    head, offer = crossed("create", sent)
    assert (head.place, head.operation, head.seconds) == (7, "create", None)
    assert offer.inputs == {"n": 1}
    assert offer.template.type == "job"
    assert (offer.output_prefix, offer.idempotency_key) == ("s3://x/0", sent.idempotency_key)
    assert offer.connection == CONNECTION


def test_a_header_crosses_with_its_inputs() -> None:
    _head, offer = crossed("do", TaskOffer(agent_pb2.CreateRequestHeader(output_prefix="p"), INPUTS))
    assert (offer.output_prefix, offer.inputs) == ("p", {"n": 1})


def test_a_job_crosses_with_its_details() -> None:
    details = {
        "queries": ["cpu"],
        "start_time": datetime(2026, 1, 2, tzinfo=UTC),
        "end_time": None,
        "step": timedelta(seconds=5),
    }
    _head, offer = crossed("get_metrics", JobOffer(b"\xff", CONNECTION, "p", details))
    assert (offer.resource_meta, offer.connection, offer.output_prefix, offer.details) == (
        b"\xff",
        CONNECTION,
        "p",
        details,
    )
    _head, plain = crossed("get", JobOffer(b"", output_prefix=""))
    assert (plain.resource_meta, plain.details) == (b"", None)


def test_deadlines_cross_as_what_is_left_and_the_request_as_what_it_is_about() -> None:
    request = (Subject("p", "c", "get", "job"), "sales/prod/f/n/0")
    token = REQUEST.set(request)
    try:
        head, offer = crossed("start", NOTHING, time.monotonic() + 5)
    finally:
        REQUEST.reset(token)
    assert offer is NOTHING
    assert head.seconds is not None
    assert 0 < head.seconds <= 5
    assert read_request(head) == request


def test_what_does_not_cross_is_a_bug_that_shows() -> None:
    with pytest.raises(TypeError, match="ManyOffer"):
        write_call(1, "get_many", ManyOffer([], []), math.inf, streams=False)


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("create", b"\x00\xff"),
        ("get", agent_pb2.Resource(message="m")),
        ("do", agent_pb2.Resource(outputs=INPUTS)),
        ("delete", None),
        ("start", None),
        ("get_metrics", [ExecutionMetricResult(metric="a"), ExecutionMetricResult()]),
        ("get_metrics", []),
        (
            "get_logs",
            [LogPage(("a", agent_pb2.LogLine(message="b"), "\udcff"), "\udcfft"), LogPage(("",), ""), LogPage()],
        ),
    ],
)
def test_answers_cross(operation: str, answer: Any) -> None:
    assert crossed_answer(operation, answer) == answer


@pytest.mark.parametrize(
    "head",
    [
        AnswerHead("bytes"),
        AnswerHead("none", (1,)),
        AnswerHead("resource", (1,)),
        AnswerHead("pages", (1,), ((3, ()),)),
        AnswerHead("pages", (1,)),
    ],
)
def test_an_answer_that_is_not_one_is_refused(head: AnswerHead) -> None:
    with pytest.raises(WireError):
        read_answer(head, b"\xff" if head.sizes else b"")


ALL = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ConnectorError)]


@pytest.mark.parametrize("cls", ALL)
def test_every_error_crosses_with_its_class(cls: type[ConnectorError]) -> None:
    error = cls("message \udcff")
    error.error_code, error.plugin, error.operation = "CODE", "p", "get"
    read = crossed_error(error)
    assert type(read) is cls
    assert (read.message, str(read), read.error_code) == ("message ?", "message ?", "CODE")
    assert (read.plugin, read.operation, read.__cause__) == ("p", "get", None)
    assert (read.fault, read.retryable, read.in_poll) == (cls.fault, cls.retryable, cls.in_poll)


def test_what_classes_have_beside_the_text_crosses() -> None:
    limited = crossed_error(RateLimitedError("slower", retry_after=3))
    assert isinstance(limited, RateLimitedError)
    assert limited.retry_after == 3
    meta = crossed_error(errors.InvalidResourceMetaError("bad", field="job"))
    assert isinstance(meta, errors.InvalidResourceMetaError)
    assert meta.field == "job"
    literal = crossed_error(errors.OffloadedLiteralError("away", uri="s3://x"))
    assert isinstance(literal, errors.OffloadedLiteralError)
    assert literal.uri == "s3://x"


def test_an_authors_class_becomes_the_nearest_one_and_keeps_what_it_says() -> None:
    class QuotaError(PermanentError):
        fault = Fault.CALLER
        in_poll = InPoll.ANSWERED

    error = QuotaError("none left")
    error.__cause__ = ValueError("the cause")
    read = crossed_error(error)
    assert type(read) is PermanentError
    assert (read.fault, read.retryable, read.in_poll) == (Fault.CALLER, False, InPoll.ANSWERED)
    assert "ValueError: the cause" in str(read.__cause__)


@pytest.mark.parametrize("kind", ["Fault", "StrEnum", "permanent_http_error"])
def test_an_error_of_what_is_not_a_class_of_errors_is_refused(kind: str) -> None:
    with pytest.raises(WireError, match="which is not one"):
        read_error(ErrorHead(kind, "", fault="plugin", in_poll="answered"))
