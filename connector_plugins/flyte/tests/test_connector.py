"""A connector of the SDK behind the host's face: what it is called with, and what its answers become."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flyte.connectors import AsyncConnector, Resource, ResourceMeta
from flyte.errors import RuntimeSystemError, RuntimeUserError
from flyteidl.admin.agent_pb2 import TaskExecutionMetadata
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl2.connector.connector_pb2 import GetTaskLogsResponse, GetTaskLogsResponseBody, GetTaskLogsResponseHeader
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate as FlyteTaskTemplate

from connector_core import Connection
from connector_core.errors import (
    IllegalAnswerError,
    InvalidConnectorError,
    InvalidResourceMetaError,
    PermanentError,
    TransientError,
)
from connector_core.secrets import SecretStr
from connector_plugin_flyte.connector import BridgedConnector
from connector_plugin_flyte.metas import meta_type_of


@dataclass
class Inner:
    depth: int


@dataclass
class Meta(ResourceMeta):
    job: str
    inner: Inner
    note: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


class Recorder(AsyncConnector[Meta]):
    """Keeps what it was called with."""

    name = "Recorder"
    task_type_name = "recorded"
    metadata_type = Meta

    def __init__(self, answer: object = None) -> None:
        self.given: dict[str, Any] = {}
        self.answer = answer

    async def create(self, **kwargs: Any) -> Any:  # type: ignore[override]
        self.given = kwargs
        return Meta("1", Inner(2)) if self.answer is None else self.answer

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Any:
        self.given = {"resource_meta": resource_meta, **kwargs}
        return Resource(phase=TaskExecution.RUNNING) if self.answer is None else self.answer

    async def delete(self, resource_meta: Meta, token: str = "") -> None:  # type: ignore[override]
        self.given = {"resource_meta": resource_meta, "token": token}


class OneAnswerLogs(Recorder):
    async def get_logs(self, resource_meta: Meta, **kwargs: Any) -> Any:
        header = GetTaskLogsResponseHeader(token=f"after {kwargs['token']}")
        return GetTaskLogsResponse(header=header) if self.answer is None else self.answer


class GeneratedLogs(Recorder):
    async def get_logs(self, resource_meta: Meta, **kwargs: Any) -> AsyncIterator[GetTaskLogsResponse]:
        yield GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=["a"]))
        yield GetTaskLogsResponse(header=GetTaskLogsResponseHeader(token="next"))


CONNECTION = Connection(secrets={"token": SecretStr("s3cret"), "both": SecretStr("secret")}, configs={"both": "config"})


def bridged(theirs: Recorder) -> BridgedConnector:
    return BridgedConnector(theirs, theirs.name)


async def create(theirs: Recorder, **more: Any) -> Any:
    template = TaskTemplate(
        type="recorded",
        interface=TypedInterface(
            inputs=VariableMap(variables={"n": Variable(type=LiteralType(simple=SimpleType.INTEGER))})
        ),
    )
    literals = LiteralMap(literals={"n": Literal(scalar=Scalar(primitive=Primitive(integer=5)))})
    metadata = TaskExecutionMetadata(labels={"team": "blue"})
    return await bridged(theirs).create(template, literals, "s3://prefix", metadata, **more)


async def test_create_gets_messages_of_its_generation_native_inputs_and_a_connections_values_by_name() -> None:
    theirs = Recorder()
    meta = await create(theirs, connection=CONNECTION)
    assert meta.theirs == Meta("1", Inner(2))
    template = theirs.given.pop("task_template")
    assert isinstance(template, FlyteTaskTemplate)
    assert [variable.key for variable in template.interface.inputs.variables] == ["n"]
    assert theirs.given.pop("task_execution_metadata").labels == {"team": "blue"}
    assert theirs.given == {"inputs": {"n": 5}, "output_prefix": "s3://prefix", "token": "s3cret", "both": "config"}


async def test_a_method_gets_of_a_connection_what_it_names_and_never_loses_an_argument_to_it() -> None:
    theirs = Recorder()
    meta = await create(theirs)
    await bridged(theirs).delete(meta, CONNECTION)
    assert theirs.given["token"] == "s3cret"
    await bridged(theirs).get(meta, Connection(configs={"resource_meta": "forged"}))
    assert theirs.given == {"resource_meta": meta.theirs}


@pytest.mark.parametrize(("answer", "said"), [(None, "nothing"), ({"job": 1}, "dict"), ("x", "str")])
async def test_a_create_that_answers_no_resource_meta_is_told_so(answer: object, said: str) -> None:
    class Forgetful(Recorder):
        async def create(self, **kwargs: Any) -> Any:  # type: ignore[override]
            return answer

    with pytest.raises(IllegalAnswerError, match=said):
        await create(Forgetful())


class Raising(Recorder):
    """Raises what it was given."""

    async def create(self, **kwargs: Any) -> Any:  # type: ignore[override]
        raise self.answer  # type: ignore[misc]

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Any:
        raise self.answer  # type: ignore[misc]


async def test_a_users_error_is_permanent_where_a_task_starts_and_fails_no_job_that_runs() -> None:
    refused = RuntimeError("no such table")
    refused.status = 404  # type: ignore[attr-defined]
    for error, code in ((RuntimeUserError("NoTable", "no such table"), "NoTable"), (refused, "HTTP404")):
        connector = BridgedConnector(Raising(error), "Raising")
        with pytest.raises(PermanentError, match="no such table") as raised:
            await connector.create(TaskTemplate(), LiteralMap(), "", TaskExecutionMetadata())
        assert raised.value.error_code == code
        with pytest.raises(type(error)):
            await connector.get(meta_type_of(Meta)(Meta("1", Inner(2))))


async def test_a_systems_error_is_left_to_the_host() -> None:
    error = RuntimeSystemError("Away", "the warehouse is away")
    with pytest.raises(RuntimeSystemError):
        await BridgedConnector(Raising(error), "Raising").create(
            TaskTemplate(), LiteralMap(), "", TaskExecutionMetadata()
        )


async def test_a_get_that_answers_no_resource_is_told_so_and_one_in_no_phase_may_pass() -> None:
    meta = await create(Recorder())
    with pytest.raises(IllegalAnswerError, match=r"a dict, not a flyte\.connectors\.Resource"):
        await bridged(Recorder({"phase": 1})).get(meta)
    with pytest.raises(TransientError, match="UNDEFINED: no state yet"):
        await bridged(Recorder(Resource(phase=TaskExecution.UNDEFINED, message="no state yet"))).get(meta)


async def test_logs_are_yielded_or_returned() -> None:
    meta = await create(Recorder())
    for theirs, expected in (
        (OneAnswerLogs(), [([], "after t")]),
        (GeneratedLogs(), [(["a"], ""), ([], "next")]),
    ):
        pages = [page async for page in bridged(theirs).get_logs(meta, "t")]
        assert [(list(page.lines), page.token) for page in pages] == expected
    with pytest.raises(IllegalAnswerError, match="a str, not a GetTaskLogsResponse"):
        [page async for page in bridged(OneAnswerLogs("text")).get_logs(meta, "t")]


def test_a_connector_without_logs_and_metrics_has_no_such_operations() -> None:
    connector = bridged(Recorder())
    assert not hasattr(connector, "get_logs")
    assert not hasattr(connector, "get_metrics")


def test_a_connector_that_names_no_class_for_its_resource_metas_is_refused() -> None:
    class Unfinished(Recorder):
        metadata_type = None  # type: ignore[assignment]

    with pytest.raises(InvalidConnectorError, match=r"Unfinished does not say .* set `metadata_type`"):
        bridged(Unfinished())


async def test_a_resource_meta_is_written_and_read_by_its_own_class() -> None:
    connector = bridged(Recorder())
    assert connector.metadata_type is not None
    encoded = (await create(Recorder())).encode()
    assert encoded == Meta("1", Inner(2)).encode()
    read: Any = connector.metadata_type.decode(encoded)
    assert read.theirs == Meta("1", Inner(2))


def test_fields_that_are_not_known_are_left_out_and_defaults_filled_in() -> None:
    connector = bridged(Recorder())
    assert connector.metadata_type is not None
    read: Any = connector.metadata_type.decode(b'{"job": "1", "inner": {"depth": 2}, "of_a_newer_version": []}')
    assert read.theirs == Meta("1", Inner(2))


@pytest.mark.parametrize(
    ("data", "said", "field_name"),
    [
        (b"\x80\x04.", "are not JSON", None),
        (b"7", "not an object", None),
        (b'{"inner": {"depth": 2}}', "field 'job' is missing", "job"),
        (b'{"job": "1", "inner": {"depth": 2, "width": 3}}', "KeyError: 'width'", None),
        (b'{"job": "1", "inner": {"depth": 2, "width": 3}, "newer": 1}', "KeyError: 'width'", None),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(data: bytes, said: str, field_name: str | None) -> None:
    connector = bridged(Recorder())
    assert connector.metadata_type is not None
    with pytest.raises(InvalidResourceMetaError, match=said) as caught:
        connector.metadata_type.decode(data)
    assert caught.value.field == field_name
    assert str(caught.value).startswith("resource meta is not a Meta: ")
