"""A client of the JSON gateway that was written from the protocol's documentation, and not from the gateway."""

import base64
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from flyteidl.admin import agent_pb2
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict
from google.protobuf.message import Message

TOKEN = "a-token-of-the-tests-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
PATIENCE = 30

_OF_JOBS: Mapping[type[Message], tuple[str, str, type[Message]]] = {
    agent_pb2.GetTaskRequest: ("GET", "task", agent_pb2.GetTaskResponse),
    agent_pb2.DeleteTaskRequest: ("DELETE", "task_executions", agent_pb2.DeleteTaskResponse),
    agent_pb2.GetTaskMetricsRequest: ("GET", "task/metrics", agent_pb2.GetTaskMetricsResponse),
    agent_pb2.GetTaskLogsRequest: ("GET", "task/logs", agent_pb2.GetTaskLogsResponse),
}


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers by lower-case name, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is one JSON value."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body's lines of JSON."""
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(frozen=True)
class Asked:
    """A request as it is sent."""

    verb: str
    path: str
    body: bytes | None = None
    answers: type[Message] = field(default=Message)


def ask(port: int, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a request to a port of this machine; blocking, which servers in a thread or process of their own do not mind."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest(verb, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def call(port: int, request: Message | Sequence[Message], **headers: str) -> tuple[Answer, type[Message]]:
    """Send a request of the protocol with the token; return the answer and what its messages are."""
    asked = as_http(request)
    more = JSON if asked.body is not None else {}
    return ask(port, asked.verb, asked.path, asked.body, {**BEARER, **more, **headers}), asked.answers


def as_http(request: Message | Sequence[Message]) -> Asked:
    """Return how a request of the protocol is sent over HTTP; a sequence is a stream of them."""
    if not isinstance(request, Message):
        lines = "\n".join(MessageToJson(one, indent=None) for one in request)
        return Asked("POST", "/api/v1/agent/task/stream", lines.encode(), agent_pb2.ExecuteTaskSyncResponse)
    if isinstance(request, agent_pb2.ListAgentsRequest):
        return Asked("GET", "/api/v1/agents", None, agent_pb2.ListAgentsResponse)
    if isinstance(request, agent_pb2.GetAgentRequest):
        return Asked("GET", f"/api/v1/agent/{quote(request.name, safe='')}", None, agent_pb2.GetAgentResponse)
    if isinstance(request, agent_pb2.CreateTaskRequest):
        return Asked("POST", "/api/v1/agent/task", MessageToJson(request).encode(), agent_pb2.CreateTaskResponse)
    verb, place, answers = _OF_JOBS[type(request)]
    category: Any = request.task_category  # type: ignore[attr-defined] # four messages, one shape
    meta = base64.urlsafe_b64encode(request.resource_meta).decode().rstrip("=")  # type: ignore[attr-defined] # the same
    path = f"/api/v1/agent/{place}/{quote(category.name, safe='')}/{category.version}/{meta}"
    rest = MessageToDict(request)
    for name in ("taskCategory", "resourceMeta"):
        rest.pop(name, None)
    return Asked(verb, f"{path}?{urlencode(rest, doseq=True)}" if rest else path, None, answers)


def messages_in(answer: Answer, kind: type[Message]) -> list[Message]:
    """Return the messages of an answer that is OK; those before the error, where a stream ends in one."""
    if answer.headers["content-type"] == "application/x-ndjson":
        return [ParseDict(line["result"], kind()) for line in answer.lines if "result" in line]
    return [ParseDict(answer.json, kind())]


def status_in(answer: Answer) -> dict[str, Any]:
    """Return the `google.rpc.Status` of an answer; code 0, where it is OK."""
    found: dict[str, Any] = {"code": 0}
    if answer.status != 200:
        found = answer.json
    elif answer.headers["content-type"] == "application/x-ndjson" and answer.body:
        found = answer.lines[-1].get("error", found)
    return found
