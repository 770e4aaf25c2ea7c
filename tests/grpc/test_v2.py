"""Engines of the 2.x line are served over the same port: `flyteidl2.connector`, with the same semantics."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from flyteidl2.core import execution_pb2, identifier_pb2, tasks_pb2
from flyteidl2.task import common_pb2

from connector_core import (
    AsyncConnectorBase,
    Connection,
    InvalidInputError,
    LinkType,
    LogLink,
    PermanentError,
    Phase,
    Resource,
)
from connector_core.secrets import SecretStr
from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, Gate, JobMeta, Jobs, eventually
from tests.support.rpc import collected, details_of, refusal

META = JobMeta("7").encode()
ASYNC = "flyteidl2.connector.AsyncConnectorService"
SECRET = "hunter2-of-the-caller"


def stub(host: RunningServer) -> Any:
    return service_pb2_grpc.AsyncConnectorServiceStub(host.channel)


def metadata(host: RunningServer) -> Any:
    return service_pb2_grpc.ConnectorMetadataServiceStub(host.channel)


def category(name: str = "job") -> connector_pb2.TaskCategory:
    return connector_pb2.TaskCategory(name=name)


def inputs(**values: int) -> common_pb2.Inputs:
    given = common_pb2.Inputs()
    for name, value in values.items():
        given.literals.add(name=name).value.scalar.primitive.integer = value
    return given


def attempt(number: int, task_type: str = "job", **values: int) -> connector_pb2.CreateTaskRequest:
    """Make the request of an engine of the 2.x line: no task id, a prefix that counts from 1."""
    run = identifier_pb2.WorkflowExecutionIdentifier(project="sales", domain="prod", name="run-1")
    node = identifier_pb2.NodeExecutionIdentifier(node_id="a0", execution_id=run)
    execution = identifier_pb2.TaskExecutionIdentifier(node_execution_id=node, retry_attempt=number)
    return connector_pb2.CreateTaskRequest(
        template=tasks_pb2.TaskTemplate(type=task_type),
        inputs=inputs(**values),
        output_prefix=f"s3://bucket/x7/sales/prod/run-1/a0/{number + 1}",
        task_execution_metadata=connector_pb2.TaskExecutionMetadata(task_execution_id=execution),
    )


def with_connection(request: Any, secret: str = SECRET) -> Any:
    request.connection.secrets["token"] = secret
    request.connection.configs["account"] = "sales"
    request.connection.task_type = "job"
    return request


def of(secret: str) -> Connection:
    return Connection({"token": SecretStr(secret)}, {"account": "sales"}, "job")


class TestAJob:
    async def test_it_is_created_polled_and_deleted(self) -> None:
        deleted = []
        async with running_server(Jobs(delete=lambda resource_meta: deleted.append(resource_meta))) as host:
            created = await stub(host).CreateTask(attempt(0, id=7))
            about: Any = {"task_category": category(), "resource_meta": created.resource_meta}
            answer = await stub(host).GetTask(connector_pb2.GetTaskRequest(**about))
            await stub(host).DeleteTask(connector_pb2.DeleteTaskRequest(**about))
        assert created.resource_meta == META, "the same plain bytes as engines of the 1.x line get"
        assert answer.resource.phase == execution_pb2.TaskExecution.SUCCEEDED
        assert [(one.name, one.value.scalar.primitive.string_value) for one in answer.resource.outputs.literals] == [
            ("id", "7")
        ]
        assert deleted == [JobMeta("7")]

    async def test_create_is_offered_what_came_as_the_first_generation_has_it(self) -> None:
        seen: dict[str, Any] = {}

        def create(**offered: Any) -> JobMeta:
            seen.update(offered)
            return JobMeta("1")

        request = with_connection(attempt(0, rows=3))
        request.template.id.name = "etl.load"
        request.template.interface.inputs.variables.add(key="rows").value.type.simple = 1
        request.task_execution_metadata.labels["team"] = "blue"
        async with running_server(Jobs(create=create)) as host:
            await stub(host).CreateTask(request)
        assert seen["inputs"] == {"rows": 3}
        assert isinstance(seen["literals"], LiteralMap)
        assert isinstance(seen["task_template"], TaskTemplate)
        assert seen["task_template"].id.name == "etl.load"
        assert seen["task_template"].interface.inputs.variables["rows"].type.simple == 1
        assert isinstance(seen["task_execution_metadata"], agent_pb2.TaskExecutionMetadata)
        assert dict(seen["task_execution_metadata"].labels) == {"team": "blue"}
        assert seen["task_execution_metadata"].task_execution_id.node_execution_id.node_id == "a0"
        assert seen["output_prefix"].endswith("/a0/1")
        assert seen["connection"] == of(SECRET)

    async def test_what_the_second_generation_alone_has_can_be_read_from_the_bytes(self) -> None:
        seen: dict[str, Any] = {}

        def create(task_template: TaskTemplate, literals: LiteralMap) -> JobMeta:
            seen["template"] = tasks_pb2.TaskTemplate.FromString(task_template.SerializeToString())
            seen["inputs"] = common_pb2.Inputs.FromString(literals.SerializeToString())
            return JobMeta("1")

        request = attempt(0, a=1)
        request.template.metadata.code_bundle_uri = "s3://code"
        request.template.reuse_policy.max_replicas = 3
        request.inputs.context.add(key="trace", value="7f")
        async with running_server(Jobs(create=create)) as host:
            await stub(host).CreateTask(request)
        assert seen == {"template": request.template, "inputs": request.inputs}

    @pytest.mark.parametrize("creates_as", ["v1", "v2"])
    async def test_one_engine_can_create_and_one_of_the_other_line_finish(self, creates_as: str) -> None:
        def create(inputs: Mapping[str, Any]) -> JobMeta:
            if inputs["id"] == "bad":
                raise InvalidInputError("no such id")
            return JobMeta(inputs["id"])

        deleted = []

        def delete(resource_meta: JobMeta) -> None:
            deleted.append(resource_meta.job_id)

        async with running_server(Jobs(create=create, delete=delete), Answers()) as host:
            second = host.speaking_v2()
            first, other = (host, second) if creates_as == "v1" else (second, host)
            good, bad = await first.create("job", {"id": "1"}), await first.create("job", {"id": "bad"})
            sync = await first.create("answer", {"x": 1})
            assert Phase((await other.get("job", good)).phase) is Phase.SUCCEEDED
            failed = await other.get("job", bad)
            assert Phase(failed.phase) is Phase.FAILED
            assert "no such id" in failed.message
            assert (await other.get("answer", sync)).outputs.literals["x"].scalar.primitive.integer == 1
            await other.delete("job", good)
        assert deleted == ["1"]

    async def test_a_sync_connector_is_served_though_there_are_no_sync_calls(self) -> None:
        async with running_server(Answers()) as host:
            created = await stub(host).CreateTask(attempt(0, "answer", x=5))
            request = connector_pb2.GetTaskRequest(
                task_category=category("answer"), resource_meta=created.resource_meta
            )
            resource = (await stub(host).GetTask(request)).resource
        assert resource.phase == execution_pb2.TaskExecution.SUCCEEDED
        assert [(one.name, one.value.scalar.primitive.integer) for one in resource.outputs.literals] == [("x", 5)]

    async def test_all_of_a_resource_arrives(self) -> None:
        link = LogLink("Dashboard", "https://jobs/7")
        told = Resource(Phase.RUNNING, message="half done", log_links=[link], custom_info={"rows": 3})
        async with running_server(Jobs(get=lambda: told)) as host:
            request = connector_pb2.GetTaskRequest(task_category=category(), resource_meta=META)
            resource = (await stub(host).GetTask(request)).resource
        assert not resource.HasField("outputs"), "no outputs mean that the engine looks for them in a file"
        assert resource.message == "half done"
        assert [(one.name, one.uri, one.message_format) for one in resource.log_links] == [
            ("Dashboard", "https://jobs/7", execution_pb2.TaskLog.JSON)
        ]
        assert dict(resource.custom_info) == {"rows": 3}

    async def test_links_lead_to_dashboards_that_are_ready_unless_they_say_otherwise(self) -> None:
        links: list[Any] = [
            LogLink("plain", "https://jobs/7"),
            TaskLog(name="first", uri="https://jobs/7"),
            LogLink("ide", "https://jobs/7", LinkType.IDE, ready=False, icon_uri="https://jobs/i.png"),
            execution_pb2.TaskLog(name="second", uri="https://jobs/7"),
        ]
        async with running_server(Jobs(get=lambda: Resource(Phase.RUNNING, log_links=links))) as host:
            request = connector_pb2.GetTaskRequest(task_category=category(), resource_meta=META)
            resource = (await stub(host).GetTask(request)).resource
        assert [(one.name, one.link_type, one.ready, one.icon_uri) for one in resource.log_links] == [
            ("plain", LinkType.DASHBOARD, True, ""),
            ("first", LinkType.DASHBOARD, True, ""),
            ("ide", LinkType.IDE, False, "https://jobs/i.png"),
            ("second", LinkType.EXTERNAL, False, ""),
        ]

    async def test_a_failure_that_may_be_tried_again_says_so_whatever_the_first_generation_is_told(self) -> None:
        connector = Jobs(get=lambda: Resource(Phase.RETRYABLE_FAILED, message="preempted"))
        async with running_server(connector, settings={"retryable_failures": "state"}) as host:
            request = connector_pb2.GetTaskRequest(task_category=category(), resource_meta=META)
            assert (await stub(host).GetTask(request)).resource.phase == execution_pb2.TaskExecution.RETRYABLE_FAILED


class TestAttempts:
    async def test_the_same_attempt_is_created_once(self) -> None:
        created: list[str] = []

        def create(idempotency_key: str) -> JobMeta:
            created.append(idempotency_key)
            return JobMeta(str(len(created)))

        async with running_server(Jobs(create=create)) as host:
            calls = [stub(host).CreateTask(attempt(0)) for _ in range(3)]
            answers = {(await call).resource_meta for call in calls}
            other = (await stub(host).CreateTask(attempt(1))).resource_meta
        assert answers == {JobMeta("1").encode()}
        assert other == JobMeta("2").encode()
        assert len(set(created)) == 2

    async def test_what_nobody_heard_of_goes_with_the_next_attempt_and_its_connection(self) -> None:
        gate = Gate()
        deleted = []

        def create(connection: Connection) -> JobMeta:
            secret = connection.secrets["token"].get_secret_value()
            if secret == "first":
                gate.block()
            return JobMeta(f"of the {secret}")

        def delete(resource_meta: JobMeta, connection: Connection) -> None:
            deleted.append((resource_meta.job_id, connection))

        async with running_server(Jobs(create=create, delete=delete)) as host:
            call = stub(host).CreateTask(with_connection(attempt(0), "first"))
            waiting = asyncio.ensure_future(call)
            await gate.reached()
            call.cancel()
            await asyncio.wait([waiting])
            await eventually(lambda: not in_flight(host, "create"))
            gate.open()
            await gate.passed()
            await stub(host).CreateTask(with_connection(attempt(1), "second"))
            await eventually(lambda: deleted)
        assert deleted == [("of the first", of("second"))]


def in_flight(host: RunningServer, operation: str) -> float:
    return host.metric("flyte_connector_requests_in_flight", task_type="job", operation=operation)


class TestConnections:
    async def test_each_call_has_its_own(self) -> None:
        seen: list[tuple[str, Connection]] = []

        def get(connection: Connection) -> Resource:
            seen.append(("get", connection))
            return Resource(Phase.RUNNING)

        def delete(connection: Connection) -> None:
            seen.append(("delete", connection))

        async with running_server(Jobs(get=get, delete=delete)) as host:
            about: Any = {"task_category": category(), "resource_meta": META}
            await stub(host).GetTask(with_connection(connector_pb2.GetTaskRequest(**about), "one"))
            await stub(host).GetTask(with_connection(connector_pb2.GetTaskRequest(**about), "two"))
            await stub(host).GetTask(connector_pb2.GetTaskRequest(**about))
            await stub(host).DeleteTask(with_connection(connector_pb2.DeleteTaskRequest(**about), "three"))
        assert seen == [("get", of("one")), ("get", of("two")), ("get", Connection()), ("delete", of("three"))]

    async def test_each_job_of_a_batch_has_its_own(self) -> None:
        class Many(AsyncConnectorBase[JobMeta]):
            name = "Many"
            task_type_name = "job"

            def create(self) -> JobMeta:
                return JobMeta("1")

            def delete(self) -> None:
                return None

            def get(self) -> Resource:
                raise AssertionError("get_many is there")

            def get_many(self, resource_metas: list[JobMeta], connections: list[Connection]) -> list[Resource]:
                pairs = zip(resource_metas, connections, strict=True)
                return [
                    Resource(Phase.RUNNING, message=f"{meta.job_id}: {one.secrets['token'].get_secret_value()}")
                    for meta, one in pairs
                ]

        async with running_server(Many(), settings={"batch": {"size": 3, "window": 3600}}) as host:
            calls = [
                stub(host).GetTask(
                    with_connection(connector_pb2.GetTaskRequest(task_category=category(), resource_meta=meta), secret)
                )
                for meta, secret in [(JobMeta("1").encode(), "a"), (b"{}", "b"), (JobMeta("3").encode(), "c")]
            ]
            answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        one, bad, three = answers
        assert [one.resource.message, three.resource.message] == ["1: a", "3: c"]
        assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_secret_gets_nowhere(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        """Not into the log at any level, what is remembered, the metrics, or an answer."""
        file = tmp_path / "jobs.sqlite"

        def create(inputs: Mapping[str, Any], connection: Connection) -> JobMeta:
            if inputs:
                raise PermanentError(f"cannot be used: {connection}")
            raise ValueError(f"wrong: {connection!r}")

        def get(connection: Connection) -> Resource:
            raise PermanentError(f"lost: {connection}")

        answers: list[str] = []
        caplog.set_level(logging.DEBUG)
        memory = {"memory": {"kind": "sqlite", "path": file}}
        async with running_server(Jobs(create=create, get=get), settings=memory) as host:
            refused = await refusal(stub(host).CreateTask(with_connection(attempt(0))))
            answers += [details_of(refused), repr(refused.trailing_metadata())]
            created = await stub(host).CreateTask(with_connection(attempt(1, a=1)))
            answers.append(repr(created.resource_meta))
            for meta in (created.resource_meta, META):
                request = connector_pb2.GetTaskRequest(task_category=category(), resource_meta=meta)
                answers.append(repr(await stub(host).GetTask(with_connection(request))))
            answers.append(await asyncio.to_thread(host.metrics_text))
        written = await asyncio.to_thread(lambda: b"".join(one.read_bytes() for one in tmp_path.iterdir()))
        assert len(written) > 1000
        assert SECRET not in caplog.text
        assert SECRET.encode() not in written
        assert not [answer for answer in answers if SECRET in answer]
        assert "token" in answers[0], "that there was one may be said"


class TestLogsAndMetrics:
    async def test_plain_lines_go_out_as_such(self) -> None:
        """An engine that finds no structured ones reads these."""
        async with running_server(Jobs(get_logs=lambda: ["one", "two"])) as host:
            (answer,) = await collected(stub(host).GetTaskLogs(logs_request()))
        assert (list(answer.body.results), list(answer.body.lines)) == (["one", "two"], [])

    async def test_structured_lines_take_plain_ones_with_them(self) -> None:
        line = agent_pb2.LogLine(message="started", originator=agent_pb2.SYSTEM)
        line.timestamp.seconds = 5
        async with running_server(Jobs(get_logs=lambda: ["plain", line])) as host:
            (answer,) = await collected(stub(host).GetTaskLogs(logs_request()))
        assert list(answer.body.results) == []
        assert [(one.message, one.timestamp.seconds, one.originator) for one in answer.body.lines] == [
            ("plain", 0, 0),
            ("started", 5, agent_pb2.SYSTEM),
        ]

    async def test_get_logs_and_get_metrics_are_offered_no_connection(self) -> None:
        """Their requests carry none."""
        seen: list[set[str]] = []

        def get_logs(**offered: Any) -> list[str]:
            seen.append(set(offered))
            return []

        async with running_server(Jobs(get_logs=get_logs)) as host:
            await collected(stub(host).GetTaskLogs(logs_request()))
        assert seen == [{"resource_meta", "lines", "token"}]


def logs_request() -> connector_pb2.GetTaskLogsRequest:
    return connector_pb2.GetTaskLogsRequest(task_category=category(), resource_meta=META)


class TestMetadata:
    async def test_every_connector_is_listed_the_sync_ones_too(self) -> None:
        async with running_server(Jobs(name="Spark", task_categories=["spark", "spark@1"]), Answers("ask")) as host:
            answer = await metadata(host).ListConnectors(connector_pb2.ListConnectorsRequest())
        assert [
            (one.name, [(kind.name, kind.version) for kind in one.supported_task_categories])
            for one in answer.connectors
        ] == [("Spark", [("spark", 0), ("spark", 1)]), ("ask connector", [("ask", 0)])]

    async def test_a_connector_is_found_by_its_name_one_that_came_later_too(self) -> None:
        async with running_server(Jobs("spark")) as host:
            host.server.registry.register(Jobs("late"))
            for name in ("spark", "late"):
                request = connector_pb2.GetConnectorRequest(name=f"{name} connector")
                answer = await metadata(host).GetConnector(request)
                assert [one.name for one in answer.connector.supported_task_categories] == [name]

    async def test_an_unknown_name_is_not_found_and_what_exists_is_named(self) -> None:
        async with running_server(Jobs("spark")) as host:
            error = await refusal(metadata(host).GetConnector(connector_pb2.GetConnectorRequest(name="sparc")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "this host has spark connector" in details_of(error)

    async def test_they_are_listed_at_once_while_a_plugin_blocks(self) -> None:
        gate = Gate()

        async def block() -> None:
            gate.block()

        async with running_server(Jobs(delete=block)) as host:
            about: Any = {"task_category": category(), "resource_meta": META}
            call = asyncio.ensure_future(stub(host).DeleteTask(connector_pb2.DeleteTaskRequest(**about)))
            await gate.reached()
            answer = await metadata(host).ListConnectors(connector_pb2.ListConnectorsRequest(), timeout=5)
            assert len(answer.connectors) == 1
            gate.open()
            await call


class TestRefusals:
    @pytest.mark.parametrize("method", ["CreateTask", "GetTask", "DeleteTask", "GetTaskMetrics"])
    async def test_garbage_is_an_invalid_argument_that_names_the_message(self, method: str) -> None:
        async with running_server(Jobs()) as host:
            call: Any = host.channel.unary_unary(f"/{ASYNC}/{method}")
            error = await refusal(call(b"\xff\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details_of(error).startswith(f"the request's 4 bytes are not a flyteidl2.connector.{method}Request")

    async def test_a_task_type_that_nobody_serves_is_not_found_and_no_label(self) -> None:
        async with running_server(Jobs("spark")) as host:
            error = await refusal(stub(host).CreateTask(attempt(0, "sparc")))
            assert host.metric(
                "flyte_connector_requests_failure_total",
                task_type="unknown",
                operation="create",
                error_code="NOT_FOUND",
            )
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "near names: 'spark'" in details_of(error)

    async def test_a_meta_that_is_none_is_an_invalid_argument_that_names_the_field(self) -> None:
        async with running_server(Jobs()) as host:
            request = connector_pb2.GetTaskRequest(task_category=category(), resource_meta=b"{}")
            error = await refusal(stub(host).GetTask(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "field 'job_id'" in details_of(error)

    async def test_sync_calls_do_not_exist(self) -> None:
        async with running_server(Answers()) as host:
            call: Any = host.channel.unary_unary(f"/{ASYNC}/ExecuteTaskSync")
            assert (await refusal(call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_calls_of_both_generations_count_together_and_metadata_apart() -> None:
    async with running_server(Jobs()) as host:
        await host.get("job", META)
        await host.speaking_v2().get("job", META)
        await host.list_connectors()
        await host.speaking_v2().list_connectors()
        counted = {
            operation: host.metric("flyte_connector_requests_success_total", task_type=kind, operation=operation)
            for kind, operation in [("job", "get"), ("", "list_agents"), ("", "list_connectors")]
        }
    assert counted == {"get": 2, "list_agents": 1, "list_connectors": 1}


async def test_a_signature_holds_for_both_generations() -> None:
    settings = {"signing": {"keys": ["a key of sixteen characters"]}}
    async with running_server(Jobs(), settings=settings) as host:
        meta = await host.speaking_v2().create("job", {"id": "1"})
        assert Phase((await host.get("job", meta)).phase) is Phase.SUCCEEDED
        error = await refusal(host.speaking_v2().get("job", META))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
