"""URLs and bodies make the messages that the rules of `google/api/http.proto` say, and nothing else."""

import base64
from typing import Any

import pytest
from flyteidl.admin.agent_pb2 import CreateTaskRequest, GetTaskRequest, ListAgentsResponse
from flyteidl.service import agent_pb2
from grpc import StatusCode

from connector_core.http.gateway.refusals import Refused, status_json
from connector_core.http.gateway.routes import PathTemplate, Route
from connector_core.http.gateway.transcoding import answer_json, stream_request, unary_request
from connector_core.http.servicer_calls import CallFailed

_METHODS: Any = agent_pb2.DESCRIPTOR.services_by_name["AsyncAgentService"].methods_by_name


def route(method: str, path: str = "/x", body: str = "") -> Route:
    return Route("POST", PathTemplate.parse(path), _METHODS[method], body)


def created(
    path: str = "/x", bound: dict[str, str] | None = None, query: bytes = b"", body: bytes = b"", of: str = ""
) -> CreateTaskRequest:
    return CreateTaskRequest.FromString(unary_request(route("CreateTask", path, of), bound or {}, query, body))


def test_a_query_fills_fields_at_any_depth_by_either_of_their_names() -> None:
    made = created(
        query=b"output_prefix=s3://x&template.taskTypeVersion=7&template.metadata.discoverable=true"
        b"&template.metadata.timeout=90.5s&template.metadata.runtime.type=FLYTE_SDK&template.id.name=a%20b+c"
    )
    assert made.output_prefix == "s3://x"
    assert made.template.task_type_version == 7
    assert made.template.metadata.discoverable is True
    assert made.template.metadata.timeout.ToMilliseconds() == 90_500
    assert made.template.metadata.runtime.type == made.template.metadata.runtime.FLYTE_SDK
    assert made.template.id.name == "a b c"


def test_a_body_may_be_one_field_and_the_rest_come_from_path_and_query() -> None:
    made = created(
        "/x/{output_prefix}",
        {"output_prefix": "p"},
        b"task_execution_metadata.namespace=n",
        b'{"type": "t"}',
        of="template",
    )
    assert (made.template.type, made.output_prefix, made.task_execution_metadata.namespace) == ("t", "p", "n")


def test_what_the_body_is_does_not_belong_in_the_query() -> None:
    with pytest.raises(Refused, match="does not belong in the query"):
        created(query=b"template.type=x", body=b"{}", of="template")


def test_a_field_in_the_path_goes_into_a_body_that_is_the_whole_request() -> None:
    made = created("/x/{output_prefix}", {"output_prefix": "p"}, body=b'{"template": {"type": "t"}}', of="*")
    assert (made.template.type, made.output_prefix) == ("t", "p")


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"\xfb\xef\xbe", b"any length", b"any length!"])
def test_bytes_are_base64_of_either_alphabet_padded_or_not(data: bytes) -> None:
    for text in (base64.urlsafe_b64encode(data).decode(), base64.b64encode(data).decode()):
        for form in (text, text.rstrip("=")):
            raw = unary_request(route("GetTask", "/x/{resource_meta}"), {"resource_meta": form}, b"", b"")
            assert GetTaskRequest.FromString(raw).resource_meta == data


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"template.metadata.discoverable=yes", "neither true nor false"),
        (b"template.metadata.discoverable=", "neither true nor false"),
        (b"inputs.literals=x", "which a URL cannot hold"),
        (b"template.custom=x", "which a URL cannot hold"),
        (b"task_execution_metadata.annotations.key=x", "is not a field"),
        (b"template.container.args.x=1", "is not a field"),
        (b"=x", "is not a field"),
        (b".=x", "is not a field"),
        (b"template.metadata.runtime.type=NOTHING", "not a flyteidl.admin.CreateTaskRequest"),
        (b"template.task_type_version=99999999999", "not a flyteidl.admin.CreateTaskRequest"),
        (b"template.task_type_version=1.5", "not a flyteidl.admin.CreateTaskRequest"),
        (b"template.metadata.timeout=soon", "not a flyteidl.admin.CreateTaskRequest"),
    ],
)
def test_what_a_query_cannot_say_is_refused(query: bytes, says: str) -> None:
    with pytest.raises(Refused, match=says):
        created(query=query)


def test_a_list_is_one_parameter_for_each_value() -> None:
    assert list(created(query=b"template.container.args=a&template.container.args=b").template.container.args) == [
        "a",
        "b",
    ]


def test_an_empty_stream_is_one_without_requests() -> None:
    stream = route("CreateTask", body="*")
    assert stream_request(stream, b" \n ") == []
    assert stream_request(stream, b"{}\n{}") == [b"", b""]
    assert stream_request(stream, b"{}\n{}\n{} nonsense") == [b"", b""]


def test_a_long_mistake_is_not_repeated_in_full() -> None:
    with pytest.raises(Refused) as refused:
        created(body=b'"' + b"x" * 100_000 + b'"', of="*")
    assert len(refused.value.details) < 1000


def test_bytes_that_are_no_message_are_an_error_and_no_crash() -> None:
    descriptor: Any = ListAgentsResponse.DESCRIPTOR
    with pytest.raises(CallFailed, match="cannot be written as JSON"):
        answer_json(descriptor, b"\xff")


@pytest.mark.parametrize("rich", [b"\xff", b"\x1a\x0c\x0a\x0aunknown/ab"])
def test_details_that_nobody_here_can_read_are_left_out_of_a_status(rich: bytes) -> None:
    failure = CallFailed(StatusCode.ABORTED, "why", rich)
    assert status_json(failure) == {"code": 10, "message": "why"}
