"""What the two generations of the protocol have in common, and what becomes of the rest."""

from collections.abc import Iterator
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl2.connector import connector_pb2
from flyteidl2.core import security_pb2, tasks_pb2
from flyteidl2.task import common_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from connector_core import LogPage
from connector_core.protocol.v1 import V1
from connector_core.protocol.v2 import V2, contradictions
from connector_core.protocol.v2.shared import SHARED
from connector_core.services.generations import Generations
from connector_core.settings import Settings
from connector_core.tables import read
from tests.support.messages import TEXT, messages
from tests.unit.test_import import run

DIALECT = V2(lambda _secrets: None)
SHOWN = {**SHARED, agent_pb2.Resource: connector_pb2.Resource, agent_pb2.Agent: connector_pb2.Connector}

KEPT_FOR_READERS = {
    "Inputs.context",
    "Literal.artifact_id",
    "TaskTemplate.reuse_policy",
    "TaskTemplate.worker_kind",
    "TaskMetadata.debuggable",
    "TaskMetadata.log_links",
    "TaskMetadata.image_build_run",
    "TaskMetadata.is_entrypoint",
    "TaskMetadata.code_bundle_uri",
    "TaskMetadata.timeouts",
    "TaskMetadata.produces_artifacts",
    "TaskMetadata.cache_max_age",
    "RetryStrategy.backoff",
    "TimePartition.key",
    "DataLoadingConfig.file_input_layout",
    "GPUAccelerator.device_class",
    "GPUAccelerator.accelerator_model",
}
"""Fields of requests that the second generation alone has: they stay in the bytes of what connectors are given."""

OFFERED = {f"{message}.connection" for message in ("CreateTaskRequest", "GetTaskRequest", "DeleteTaskRequest")}
"""Fields of requests that connectors are offered as an argument."""

NOT_TOLD = {
    "LogLine.short_pod_name",
    "Outputs.produced_artifacts",
    "TaskLog.link_type",
    "TaskLog.ready",
    "TaskLog.icon_uri",
}
"""Fields of answers that no connector of the first generation's messages fills."""

ALONE_IN_THE_FIRST = {
    "Agent.is_sync",  # the second generation has no sync calls
    "Agent.supported_task_types",  # as `supported_task_categories` says
    "Resource.agent_error",  # its message is in `message`, and the engine reads no more of it on this path
    "Resource.state",  # what `phase` says
    "TaskExecutionMetadata.overrides",  # engines of the 2.x line send none
    *(
        f"{message}.task_type"  # of engines before 1.13
        for message in ("DeleteTaskRequest", "GetTaskLogsRequest", "GetTaskMetricsRequest", "GetTaskRequest")
    ),
}
"""What engines of the 2.x line neither send nor read."""

RENAMED = {
    "LiteralMap.LiteralsEntry.key": "NamedLiteral.name",
    "GetTaskLogsResponseBody.structured_lines": "GetTaskLogsResponseBody.lines",
}
VALUES_OF_THE_SECOND = {"TimePartition.granularity": {"WEEK"}}


def pairs(first: Any, second: Any, seen: set[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield two messages' descriptors, then those of the messages in fields of one number; in a way of the test's own."""
    if (first, second) in seen or first is second:
        return
    seen.add((first, second))
    yield first, second
    for number in numbers(first) & numbers(second):
        one, other = (kind.fields_by_number[number].message_type for kind in (first, second))
        if one and other:
            yield from pairs(one, other, seen)


def every_pair() -> list[tuple[Any, Any]]:
    seen: set[Any] = set()
    kinds: dict[Any, Any] = {**SHOWN, agent_pb2.GetTaskLogsResponse: connector_pb2.GetTaskLogsResponse}
    return [pair for first, second in kinds.items() for pair in pairs(first.DESCRIPTOR, second.DESCRIPTOR, seen)]


def numbers(message: Any) -> set[int]:
    return {field.number for field in message.fields}


def named(message: Any, number: int) -> str:
    scope = message.full_name.removeprefix(f"{message.file.package}.")
    return f"{scope}.{message.fields_by_number[number].name}"


def alone(first: Any, second: Any) -> set[str]:
    """Name the fields of one message that the other does not have."""
    return {named(first, number) for number in numbers(first) - numbers(second)}


class TestWhatTheyShare:
    """Each of these fails when a new release of either package has a field that nobody has decided about."""

    def test_every_field_of_the_second_generation_alone_is_known(self) -> None:
        found = {name for first, second in every_pair() for name in alone(second, first)}
        assert found - KEPT_FOR_READERS - OFFERED - NOT_TOLD == set()
        assert found >= OFFERED

    def test_every_field_of_the_first_generation_alone_is_known(self) -> None:
        found = {name for first, second in every_pair() for name in alone(first, second)}
        assert found - ALONE_IN_THE_FIRST == set()

    def test_fields_of_one_number_have_one_name(self) -> None:
        renamed = {}
        for first, second in every_pair():
            for number in numbers(first) & numbers(second):
                if first.fields_by_number[number].name != second.fields_by_number[number].name:
                    renamed[named(first, number)] = named(second, number)
        assert renamed == RENAMED

    def test_fields_of_one_number_are_of_one_kind(self) -> None:
        for first, second in every_pair():
            for number in numbers(first) & numbers(second):
                one, other = first.fields_by_number[number], second.fields_by_number[number]
                assert one.type == other.type, named(first, number)
                assert isinstance(one.default_value, list) == isinstance(other.default_value, list), named(
                    first, number
                )

    def test_enums_have_the_same_values(self) -> None:
        differing = {}
        for first, second in every_pair():
            for number in numbers(first) & numbers(second):
                one, other = first.fields_by_number[number].enum_type, second.fields_by_number[number].enum_type
                if one is not None and (more := set(other.values_by_name) - set(one.values_by_name)):
                    differing[named(second, number)] = more
                if one is not None:
                    assert {v.name: v.number for v in one.values}.items() <= {
                        v.name: v.number for v in other.values
                    }.items()
        assert differing == VALUES_OF_THE_SECOND

    def test_the_host_finds_nothing_that_contradicts(self) -> None:
        assert contradictions() == []


def made_up(name: str, /, **kinds: str) -> type[Message]:
    """Make a message whose fields, numbered as they come, are of the kinds that are named."""
    file = FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3")
    message = file.message_type.add(name="Job")
    for number, (field, kind) in enumerate(kinds.items(), start=1):
        label = "LABEL_REPEATED" if kind.endswith("[]") else "LABEL_OPTIONAL"
        added: Any = message.field.add(name=field, number=number)
        added.type, added.label = (
            added.Type.Value(f"TYPE_{kind.removesuffix('[]').upper()}"),
            added.Label.Value(label),
        )
    pool: Any = DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{name}.Job"))


class TestContradictions:
    def test_a_field_of_another_kind_is_one(self) -> None:
        shared = {made_up("a", id="string", rows="int64"): made_up("b", id="string", count="string")}
        assert contradictions(shared) == ["a.Job.rows and b.Job.count have one number and are of different kinds"]

    def test_so_is_a_list_in_place_of_one_value(self) -> None:
        assert len(contradictions({made_up("c", id="string"): made_up("d", id="string[]")})) == 1

    def test_other_names_and_further_fields_are_none(self) -> None:
        assert contradictions({made_up("e", id="string"): made_up("f", name="string", rows="int64")}) == []


class TestRequests:
    @given(messages(connector_pb2.CreateTaskRequest))
    def test_a_create_arrives_whole(self, sent: Any) -> None:
        read, connection = DIALECT.read_create(sent.SerializeToString())
        assert read.output_prefix == sent.output_prefix
        template = tasks_pb2.TaskTemplate.FromString(read.template.SerializeToString())
        assert as_engines_write(template) == as_engines_write(sent.template)
        metadata = connector_pb2.TaskExecutionMetadata.FromString(read.task_execution_metadata.SerializeToString())
        assert metadata == sent.task_execution_metadata
        assert_equal_inputs(common_pb2.Inputs.FromString(read.inputs.SerializeToString()), sent.inputs)
        assert connection.task_type == sent.connection.task_type
        assert connection.configs == dict(sent.connection.configs)
        revealed = {name: secret.get_secret_value() for name, secret in connection.secrets.items()}
        assert revealed == dict(sent.connection.secrets)

    @given(messages(connector_pb2.GetTaskRequest))
    def test_so_does_a_get(self, sent: Any) -> None:
        read, connection = DIALECT.read_get(sent.SerializeToString())
        assert (read.task_category.name, read.task_category.version) == (
            sent.task_category.name,
            sent.task_category.version,
        )
        assert (read.resource_meta, read.output_prefix) == (sent.resource_meta, sent.output_prefix)
        assert set(connection.secrets) == set(sent.connection.secrets)

    @given(messages(connector_pb2.DeleteTaskRequest))
    def test_so_does_a_delete(self, sent: Any) -> None:
        read, connection = DIALECT.read_delete(sent.SerializeToString())
        assert (read.task_category.name, read.resource_meta) == (sent.task_category.name, sent.resource_meta)
        assert connection.configs == dict(sent.connection.configs)

    @given(messages(connector_pb2.GetTaskLogsRequest))
    def test_so_does_a_call_for_logs(self, sent: Any) -> None:
        read = DIALECT.read_logs(sent.SerializeToString())
        assert (read.task_category.name, read.resource_meta) == (sent.task_category.name, sent.resource_meta)
        assert (read.lines, read.token) == (sent.lines, sent.token)

    @given(messages(connector_pb2.GetTaskMetricsRequest))
    def test_so_does_a_call_for_metrics(self, sent: Any) -> None:
        read = DIALECT.read_metrics(sent.SerializeToString())
        assert (read.task_category.name, read.resource_meta) == (sent.task_category.name, sent.resource_meta)
        assert (list(read.queries), read.start_time, read.end_time, read.step) == (
            list(sent.queries),
            sent.start_time,
            sent.end_time,
            sent.step,
        )


def as_engines_write(template: Any) -> Any:
    """Have each variable once, with its type, and in order: a list of entries can be written in more ways than a map."""
    for variables in (template.interface.inputs.variables, template.interface.outputs.variables):
        types = {entry.key: entry.value for entry in variables}
        del variables[:]
        for key in sorted(types):
            variables.add(key=key, value=types[key])
    return template


def assert_equal_inputs(one: Any, other: Any) -> None:
    """Compare inputs as engines of the 2.x line send them, which have each name once, in no order that matters."""
    assert list(one.context) == list(other.context)
    assert {named.name: named.value for named in one.literals} == {named.name: named.value for named in other.literals}


def first_generation(link: Any) -> TaskLog:
    """Return a link as the first generation reads it, without what that does not know."""
    read = TaskLog.FromString(link.SerializeToString())
    read.DiscardUnknownFields()
    return read


class TestAnswers:
    @given(messages(agent_pb2.Resource))
    def test_every_field_of_a_resource_that_has_a_place_goes_out(self, told: Any) -> None:
        before = told.SerializeToString(deterministic=True)
        answer = connector_pb2.GetTaskResponse.FromString(DIALECT.write_resource(told)).resource
        assert (answer.phase, answer.message) == (told.phase, told.message)
        assert [first_generation(link) for link in answer.log_links] == list(told.log_links)
        assert answer.HasField("outputs") == told.HasField("outputs")
        assert LiteralMap.FromString(answer.outputs.SerializeToString()) == told.outputs
        assert answer.HasField("custom_info") == told.HasField("custom_info")
        assert answer.custom_info == told.custom_info
        assert told.SerializeToString(deterministic=True) == before, "others may be answered with it, too"

    @given(messages(agent_pb2.Resource))
    def test_nothing_goes_out_that_the_second_generation_does_not_have(self, told: Any) -> None:
        answer = connector_pb2.GetTaskResponse.FromString(DIALECT.write_resource(told)).resource
        known = connector_pb2.Resource()
        known.CopyFrom(answer)
        known.DiscardUnknownFields()
        assert known == answer

    @given(st.lists(TEXT | messages(agent_pb2.LogLine), min_size=1, max_size=4), TEXT)
    def test_every_line_goes_out_in_order(self, lines: list[Any], token: str) -> None:
        written = list(DIALECT.write_logs(LogPage(lines, token)))
        answers = [connector_pb2.GetTaskLogsResponse.FromString(raw) for raw in written]
        assert [answer.header.token for answer in answers if answer.HasField("header")] == ([token] if token else [])
        body = answers[-1].body
        texts = [line if isinstance(line, str) else line.message for line in lines]
        assert [*body.results, *(line.message for line in body.lines)] == texts

    def test_both_say_the_same_of_a_create_and_a_delete(self) -> None:
        assert V1().write_created(b"7") == DIALECT.write_created(b"7")
        assert V1().write_deleted() == DIALECT.write_deleted()


class TestRetryableFailures:
    @pytest.mark.parametrize("phase", range(9))
    def test_engines_before_1_16_are_told_by_the_older_state(self, phase: Any) -> None:
        told = agent_pb2.Resource(phase=phase, message="preempted")
        new = agent_pb2.GetTaskResponse.FromString(V1().write_resource(told)).resource
        old = agent_pb2.GetTaskResponse.FromString(V1(retryable_as_state=True).write_resource(told)).resource
        assert new.phase == phase
        assert (old.phase, old.state, old.message) == (
            0 if phase == 8 else phase,
            agent_pb2.RETRYABLE_FAILURE,  # 0, as where nothing is said
            "preempted",
        )
        assert told.phase == phase, "the host's own is left as it is"


BLOCKED = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "flyteidl2":
                raise ModuleNotFoundError(f"No module named {name!r}", name="flyteidl2")

    sys.meta_path.insert(0, Blocked())
"""


class TestWithoutTheExtra:
    def test_the_first_generation_is_served_and_nothing_of_the_second_imported(self) -> None:
        served = run(
            BLOCKED
            + """
    import asyncio
    from connector_core.testing import running_server
    from tests.fakes import Jobs

    async def main():
        async with running_server(Jobs()) as host:
            meta = await host.create("job", {"id": "1"})
            names = [one.full_name for one in host.server.generations.descriptors()]
            return (await host.get("job", meta)).phase, names, host.server.generations.without_v2

    print(asyncio.run(main()), [name for name in sys.modules if name.startswith(("flyteidl2", "buf"))])
    """
        )
        assert served == (
            "(3, ['flyteidl.service.SyncAgentService', 'flyteidl.service.AsyncAgentService', "
            "'flyteidl.service.AgentMetadataService'], "
            "\"the extra v2 is not installed: pip install 'connector-core[v2]'\") []"
        )

    def test_a_host_that_has_to_serve_both_refuses_to_start_and_names_the_extra(self) -> None:
        said = run(
            BLOCKED
            + """
    from connector_core.errors import SettingsError
    from connector_core.services.generations import Generations
    from connector_core.settings import Settings
    try:
        Generations(Settings(protocols="both"))
    except SettingsError as error:
        print(error)
    """
        )
        assert said == (
            "protocols is both, and engines of the 2.x line cannot be served: the extra v2 is not installed: "
            "pip install 'connector-core[v2]'"
        )

    @pytest.mark.parametrize(
        ("raised", "says"),
        [
            ("ModuleNotFoundError('gone', name='flyteidl2.logs')", "is not whole, or too old: gone"),
            (
                "TypeError('Descriptors cannot be created')",
                "cannot be imported: TypeError: Descriptors cannot be created",
            ),
        ],
    )
    def test_one_that_is_broken_costs_the_second_generation_alone(self, raised: str, says: str) -> None:
        said = run(
            BLOCKED.replace('ModuleNotFoundError(f"No module named {name!r}", name="flyteidl2")', raised)
            + """
    from connector_core.services.generations import Generations
    from connector_core.settings import Settings
    print(len(Generations(Settings()).descriptors()), Generations(Settings()).without_v2)
    """
        )
        assert said == f"3 the installed flyteidl2 {says}"


def test_the_second_generation_can_be_left_out() -> None:
    generations = Generations(Settings(protocols="v1"))
    assert len(generations.descriptors()) == 3
    assert generations.without_v2 == "the setting protocols has v1 alone"


def test_a_generation_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="protocols: must be 'auto', 'v1' or 'both'"):
        read(Settings, {"protocols": "v3"})


def test_the_connection_is_read_from_the_message_that_is_meant() -> None:
    assert {field.name for field in security_pb2.Connection.DESCRIPTOR.fields} == {"task_type", "secrets", "configs"}
