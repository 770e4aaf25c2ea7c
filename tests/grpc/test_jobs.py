"""`AsyncAgentService` over the wire: jobs are created, polled and deleted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Connection, Phase, Resource
from connector_core.errors import InvalidInputError, JobNotFoundError
from connector_core.literals import to_literal_map, to_python_map
from connector_core.testing import RunningServer
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.generations import running_server
from tests.support.rpc import assert_hides_its_inside, collected, details_of, refusal

pytestmark = pytest.mark.usefixtures("spoken")

META = JobMeta("7").encode()


class TestAJob:
    async def test_it_is_created_polled_and_deleted(self) -> None:
        deleted = []
        async with running_server(Jobs(delete=lambda resource_meta: deleted.append(resource_meta))) as host:
            meta = await host.create("job", {"id": "7"})
            resource = await host.get("job", meta)
            await host.delete("job", meta)
        assert meta == META, "the engine keeps the connector's own bytes, as today's servers write them"
        assert resource.phase == TaskExecution.SUCCEEDED
        assert to_python_map(resource.outputs) == {"id": "7"}
        assert deleted == [JobMeta("7")]

    async def test_create_is_offered_all_that_the_request_holds(self) -> None:
        seen: dict[str, Any] = {}

        def create(**offered: Any) -> JobMeta:
            seen.update(offered)
            return JobMeta("1")

        metadata = agent_pb2.TaskExecutionMetadata(namespace="sales-prod")
        metadata.task_execution_id.node_execution_id.execution_id.name = "f00"
        template = TaskTemplate(type="job")
        async with running_server(Jobs(create=create)) as host:
            inputs = {"rows": 3}
            await host.create(template, inputs, output_prefix="s3://b/n0/0", task_execution_metadata=metadata)
        assert seen.pop("idempotency_key")
        assert seen == {
            "task_template": template,
            "custom": {},
            "inputs": {"rows": 3},
            "literals": to_literal_map(inputs),
            "output_prefix": "s3://b/n0/0",
            "task_execution_metadata": metadata,
            "connection": Connection(),
        }

    async def test_engines_of_the_1_line_bring_an_empty_connection(self) -> None:
        seen: dict[str, Any] = {}

        def get(connection: Connection) -> Resource:
            seen["get"] = connection
            return Resource(Phase.RUNNING)

        def delete(connection: Connection) -> None:
            seen["delete"] = connection

        async with running_server(Jobs(get=get, delete=delete)) as host:
            await host.get("job", META)
            await host.delete("job", META)
        assert seen == {"get": Connection(), "delete": Connection()}

    async def test_get_is_offered_the_output_prefix(self) -> None:
        seen = []

        async def get(resource_meta: JobMeta, output_prefix: str) -> Resource:
            seen.append((resource_meta, output_prefix))
            return Resource(Phase.RUNNING)

        async with running_server(Jobs(get=get)) as host:
            await host.get("job", META, output_prefix="s3://b/n0/0")
        assert seen == [(JobMeta("7"), "s3://b/n0/0")]

    async def test_it_goes_to_the_connector_of_its_task_types_version(self) -> None:
        old = Jobs(name="old", task_categories=["job"], create=lambda: JobMeta("old"))
        new = Jobs(name="new", task_categories=["job@1"], create=lambda: JobMeta("new"))
        async with running_server(old, new) as host:
            assert await host.create(TaskTemplate(type="job")) == JobMeta("old").encode()
            assert await host.create(TaskTemplate(type="job", task_type_version=1)) == JobMeta("new").encode()

    @pytest.mark.of_the_first_generation
    async def test_an_engine_that_fills_the_older_field_alone_is_served(self) -> None:
        async with running_server(Jobs()) as host:
            request = agent_pb2.GetTaskRequest(task_type="job", resource_meta=META)
            answer: agent_pb2.GetTaskResponse = await host.async_stub.GetTask(request)
        assert answer.resource.phase == TaskExecution.SUCCEEDED

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "blocking"])
    async def test_methods_may_be_async_or_plain(self, is_async: bool) -> None:
        def create() -> JobMeta:
            return JobMeta("plain")

        async def create_async() -> JobMeta:
            return JobMeta("async")

        async with running_server(Jobs(create=create_async if is_async else create)) as host:
            assert await host.create("job") == JobMeta("async" if is_async else "plain").encode()


async def about_the_job(host: RunningServer, operation: str, meta: bytes) -> Any:
    """Make the call of this operation with a resource meta."""
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: host.get("job", meta),
        "delete": lambda: host.delete("job", meta),
        "get_metrics": lambda: host.get_metrics("job", meta),
        "get_logs": lambda: collected(host.get_logs("job", meta)),
    }
    return await calls[operation]()


@pytest_asyncio.fixture(loop_scope="class", scope="class")
async def host() -> AsyncIterator[RunningServer]:
    """A host for the tests of one class, with a connector that has every operation."""

    def get_logs(resource_meta: JobMeta) -> list[str]:
        return [resource_meta.job_id]

    async with running_server(Jobs(get_metrics=lambda resource_meta: [], get_logs=get_logs)) as host:
        yield host


@pytest.mark.asyncio(loop_scope="class")
@pytest.mark.parametrize("operation", ["get", "delete", "get_metrics", "get_logs"])
class TestResourceMetas:
    @pytest.mark.parametrize(
        ("meta", "culprit"),
        [
            (b'{"job_id": 7}', "field 'job_id'"),
            (b'{"job_id": "7", "cluster": null}', "field 'cluster'"),
            (b'{"cluster": "main"}', "field 'job_id'"),
            (b"", "not a JobMeta"),
            (b"\xff\x00", "not a JobMeta"),
            (b"[]", "not a JobMeta"),
        ],
        ids=["wrong type", "null", "missing", "empty", "garbage", "no object"],
    )
    async def test_a_malformed_one_is_an_invalid_argument_that_names_the_field(
        self, host: RunningServer, operation: str, meta: bytes, culprit: str
    ) -> None:
        if operation == "delete":  # engines repeat what fails for ever: tests/grpc/test_deletes.py
            await about_the_job(host, operation, meta)
            return
        error = await refusal(about_the_job(host, operation, meta))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert culprit in details_of(error)
        assert "plugin 'test-job connector'" in details_of(error)
        assert_hides_its_inside(error)

    @pytest.mark.parametrize(
        "meta",
        [b'{"job_id": "7", "cluster": "main", "invented": {"later": 1}}', b'{"job_id": "7"}'],
        ids=["an extra field", "a field with a default left out"],
    )
    async def test_older_and_newer_writers_are_understood(
        self, host: RunningServer, operation: str, meta: bytes
    ) -> None:
        await about_the_job(host, operation, meta)


def raising(error: BaseException) -> Any:
    """Return a method that raises."""

    async def fail() -> None:
        raise error

    return fail


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ValueError("no column 'a'"), grpc.StatusCode.INVALID_ARGUMENT),
            (PermissionError("not yours"), grpc.StatusCode.PERMISSION_DENIED),
            (ConnectionRefusedError("away"), grpc.StatusCode.UNAVAILABLE),
            (KeyError("a"), grpc.StatusCode.INTERNAL),
            (SystemExit(3), grpc.StatusCode.INTERNAL),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    @pytest.mark.parametrize("operation", ["create", "delete"])
    async def test_what_a_plugin_raises_has_its_code_and_the_traceback_stays_in_the_log(
        self, operation: str, error: BaseException, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running_server(Jobs(**{operation: raising(error)})) as host:
            call = host.create("job") if operation == "create" else host.delete("job", META)
            refused = await refusal(call)
        assert refused.code() is code
        assert_hides_its_inside(refused)
        details = details_of(refused)
        assert f"plugin 'test-job connector', {operation}(): " in details
        reference = details.rsplit(" ", 1)[1].rstrip(")")
        (record,) = [record for record in caplog.records if reference in record.getMessage()]
        assert record.exc_info is not None

    @pytest.mark.parametrize(
        "error", [ValueError("<html>"), PermissionError("token expired"), KeyError("state")], ids=repr
    )
    async def test_no_plain_exception_fails_a_running_job(self, error: Exception) -> None:
        async with running_server(Jobs(get=raising(error)), settings={"deadlines": {"get": 0.3}}) as host:
            resource = await host.get("job", META)
        assert resource.phase == TaskExecution.RUNNING
        assert type(error).__name__ in resource.message

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ValueError("<html>"), grpc.StatusCode.INVALID_ARGUMENT),
            (PermissionError("x"), grpc.StatusCode.PERMISSION_DENIED),
        ],
        ids=["ValueError", "PermissionError"],
    )
    async def test_where_nothing_is_ridden_out_its_code_goes_out(self, error: Exception, code: grpc.StatusCode) -> None:
        settings = {"deadlines": {"get": 0.5}, "ride_out": {"failures": 0}}
        async with running_server(Jobs(get=raising(error)), settings=settings) as host:
            refused = await refusal(host.get("job", META))
        assert refused.code() is code
        assert_hides_its_inside(refused)

    async def test_a_permanent_error_fails_the_job_with_its_message(self) -> None:
        async with running_server(Jobs(create=raising(InvalidInputError("no table 'sales'")))) as host:
            meta = await host.create("job")
            resource = await host.get("job", meta)
            await host.delete("job", meta)
        assert resource.phase == TaskExecution.FAILED
        assert "no table 'sales'" in resource.message

    async def test_a_permanent_error_is_a_status_where_the_settings_say_so(self) -> None:
        error = InvalidInputError("no table 'sales'")
        async with running_server(
            Jobs(create=raising(error)), settings={"permanent_create_failures": "status"}
        ) as host:
            refused = await refusal(host.create("job"))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details_of(refused) == "plugin 'test-job connector', create(): no table 'sales'"

    async def test_deleting_a_job_that_is_gone_is_no_error(self) -> None:
        async with running_server(Jobs(delete=raising(JobNotFoundError("gone")))) as host:
            await host.delete("job", META)

    async def test_a_long_message_in_any_language_arrives_with_its_code(self) -> None:
        error = ConnectionError("倉庫は閉まっています 😀\n" * 2000)
        async with running_server(Jobs(delete=raising(error))) as host:
            refused = await refusal(host.delete("job", META))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert "倉庫は閉まっています 😀" in details_of(refused)


class TestAnswersThatAreNone:
    """The engine reads UNDEFINED as a failure to be retried, and nothing at all the same way."""

    @pytest.mark.parametrize(
        "answer", [None, {"phase": "SUCCEEDED"}, JobMeta("1"), Resource(TaskExecution.UNDEFINED), Resource(99)],  # type: ignore[arg-type]
        ids=["None", "dict", "resource meta", "UNDEFINED", "no phase"],
    )  # fmt: skip
    async def test_of_get_are_internal_and_name_plugin_and_operation(self, answer: object) -> None:
        async with running_server(Jobs(get=lambda: answer)) as host:
            error = await refusal(host.get("job", META))
        assert_names_the_culprit(error, "get()")

    @pytest.mark.parametrize(
        "answer", [None, "job-1", Resource(Phase.QUEUED), b"{}"], ids=["None", "str", "Resource", "bytes"]
    )
    async def test_of_create_are_internal_and_name_plugin_and_operation(self, answer: object) -> None:
        async with running_server(Jobs(create=lambda: answer)) as host:
            error = await refusal(host.create("job"))
        assert_names_the_culprit(error, "create()")

    async def test_of_create_that_could_not_be_read_again_are_internal(self) -> None:
        async with running_server(Jobs(create=lambda: JobMeta(7))) as host:  # type: ignore[arg-type]
            error = await refusal(host.create("job"))
        assert_names_the_culprit(error, "create()")
        assert "job_id" in details_of(error)

    async def test_outputs_that_have_no_literal_are_internal(self) -> None:
        async with running_server(Jobs(get=lambda: Resource(Phase.SUCCEEDED, outputs={"o": object()}))) as host:
            error = await refusal(host.get("job", META))
        assert_names_the_culprit(error, "get()")

    @pytest.mark.parametrize("answer", [5, ["CPU"]], ids=["number", "strings"])
    async def test_of_get_metrics_are_internal(self, answer: object) -> None:
        async with running_server(Jobs(get_metrics=lambda: answer)) as host:
            error = await refusal(host.get_metrics("job", META))
        assert_names_the_culprit(error, "get_metrics()")

    @pytest.mark.parametrize("answer", [None, 5, [b"line"]], ids=["None", "number", "bytes"])
    async def test_of_get_logs_are_internal(self, answer: object) -> None:
        async with running_server(Jobs(get_logs=lambda: answer)) as host:
            error = await refusal(collected(host.get_logs("job", META)))
        assert_names_the_culprit(error, "get_logs()")

    async def test_of_delete_do_not_matter(self) -> None:
        async with running_server(Jobs(delete=lambda: {"deleted": True})) as host:
            await host.delete("job", META)


def assert_names_the_culprit(error: grpc.aio.AioRpcError, operation: str) -> None:
    assert error.code() is grpc.StatusCode.INTERNAL
    assert f"plugin 'test-job connector', {operation}" in details_of(error)
    assert_hides_its_inside(error)


class TestSyncConnectorsCalledAsAsync:
    """The engine calls statically configured task types and its default connector with CreateTask, whatever they are."""

    async def test_the_result_of_create_is_there_for_get_and_delete(self) -> None:
        done = []

        def do(inputs: dict[str, Any]) -> Resource:
            done.append(inputs)
            return Resource(Phase.SUCCEEDED, outputs={"sum": sum(inputs.values())}, message="added")

        async with running_server(Answers("add", do=do)) as host:
            meta = await host.create("add", {"a": 1, "b": 2})
            resource = await host.get("add", meta)
            assert resource == await host.get("add", meta)
            await host.delete("add", meta)
            await host.delete("add", meta)
        assert done == [{"a": 1, "b": 2}]
        assert resource.phase == TaskExecution.SUCCEEDED
        assert to_python_map(resource.outputs) == {"sum": 3}
        assert resource.message == "added"

    async def test_another_host_can_read_the_result(self) -> None:
        async with running_server(Answers()) as host:
            meta = await host.create("answer", {"a": 1})
        async with running_server(Answers()) as host:
            assert to_python_map((await host.get("answer", meta)).outputs) == {"a": 1}

    async def test_its_failure_is_a_failed_job(self) -> None:
        async with running_server(Answers(do=raising(InvalidInputError("no such table")))) as host:
            resource = await host.get("answer", await host.create("answer"))
        assert resource.phase == TaskExecution.FAILED
        assert "no such table" in resource.message

    @pytest.mark.parametrize(
        "meta", [b"", b"{}", b"\x00connector-host/9/later\x00", b"\x00connector-host/1/resource\x00\xff"]
    )
    async def test_a_resource_meta_without_a_result_is_an_invalid_argument(self, meta: bytes) -> None:
        async with running_server(Answers()) as host:
            assert (await refusal(host.get("answer", meta))).code() is grpc.StatusCode.INVALID_ARGUMENT


class TestSizes:
    async def test_5_mb_of_inputs_are_accepted(self) -> None:
        text = "x" * 5_000_000
        async with running_server(Jobs(create=lambda inputs: JobMeta(str(len(inputs["text"]))))) as host:
            assert await host.create("job", {"text": text}) == JobMeta("5000000").encode()

    async def test_inputs_over_the_limit_are_refused_with_the_limit(self) -> None:
        async with running_server(Jobs(), settings={"max_request_bytes": 100_000}) as host:
            error = await refusal(host.create("job", {"text": "x" * 200_000}))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "100000" in details_of(error)

    async def test_outputs_up_to_what_the_engine_receives_come_whole(self) -> None:
        text = "x" * 4_000_000
        async with running_server(Jobs(get=lambda: Resource(Phase.SUCCEEDED, outputs={"text": text}))) as host:
            resource = await host.get("job", META)
        assert to_python_map(resource.outputs) == {"text": text}

    async def test_outputs_beyond_that_are_a_failure_that_says_what_to_do(self) -> None:
        text = "x" * 5_000_000
        async with running_server(Jobs(get=lambda: Resource(Phase.SUCCEEDED, outputs={"text": text}))) as host:
            resource = await host.get("job", META)
        assert resource.phase == TaskExecution.FAILED
        assert "4,194,304" in resource.message
        assert "output prefix" in resource.message


class TestUnknownTaskTypes:
    async def test_they_are_not_found_and_near_names_are_told(self) -> None:
        async with running_server(Jobs("bigquery"), Jobs("spark")) as host:
            for call in (
                host.create("bigqery"),
                host.get("bigqery", META),
                host.delete("bigqery", META),
                host.get_metrics("bigqery", META),
                collected(host.get_logs("bigqery", META)),
                host.execute("bigqery"),
            ):
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.NOT_FOUND
                assert details_of(error) == (
                    "no connector serves task type 'bigqery' (near names: 'bigquery'); this host has bigquery, spark"
                )

    async def test_a_request_that_names_none_is_an_invalid_argument(self) -> None:
        async with running_server(Jobs()) as host:
            for call in (
                host.create(""),
                host.get("", META),
                host.delete("", META),
                host.get_metrics("", META),
                collected(host.get_logs("", META)),
                host.execute(""),
            ):
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "no task type" in details_of(error)
