"""An answer of plugin code becomes what goes on the wire, or an error that says what is wrong with it."""

from datetime import datetime
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from google.protobuf.json_format import MessageToDict

from connector_core import LogLink, LogPage, Phase, Resource, ResourceMeta
from connector_core.errors import PluginCallError
from connector_core.invocation.answers import encode_answer
from connector_core.literals import to_literal_map, to_python_map
from tests.fakes import JobMeta


class TestAnswers:
    def test_a_resource_meta_is_its_bytes(self) -> None:
        assert encode_answer("create", JobMeta("1")) == JobMeta("1").encode()

    @pytest.mark.parametrize("operation", ["delete", "start", "close"])
    @pytest.mark.parametrize("answer", [None, "anything"])
    def test_what_nobody_asks_for_is_dropped(self, operation: str, answer: object) -> None:
        assert encode_answer(operation, answer) is None

    @pytest.mark.parametrize("operation", ["get", "do"])
    def test_a_resource_is_the_protocols(self, operation: str) -> None:
        resource = Resource(
            Phase.FAILED,
            outputs={"rows": 3},
            message="no such table",
            log_links=[LogLink("Dashboard", "http://example.test/1")],
            custom_info={"query_id": "q1", "stages": [1, {"ok": True}]},
            error_code="TABLE_MISSING",
        )
        message = encode_answer(operation, resource)
        assert isinstance(message, agent_pb2.Resource)
        assert message.phase == TaskExecution.FAILED
        assert to_python_map(message.outputs) == {"rows": 3}
        assert message.message == "no such table"
        assert [link.uri for link in message.log_links] == ["http://example.test/1"]
        assert MessageToDict(message.custom_info) == {"query_id": "q1", "stages": [1, {"ok": True}]}
        assert message.agent_error.code == "TABLE_MISSING"

    def test_what_a_resource_leaves_out_is_not_there(self) -> None:
        message = encode_answer("get", Resource(Phase.RUNNING))
        assert not message.HasField("outputs")
        assert not message.HasField("custom_info")
        assert not message.HasField("agent_error")

    def test_outputs_may_be_literals_already(self) -> None:
        literals = to_literal_map({"a": 1})
        assert encode_answer("get", Resource(Phase.SUCCEEDED, outputs=literals)).outputs == literals
        assert isinstance(literals, LiteralMap)

    def test_outputs_take_the_types_that_the_template_declares(self) -> None:
        declared = Variable(type=LiteralType(simple=SimpleType.FLOAT))
        template = TaskTemplate(interface=TypedInterface(outputs=VariableMap(variables={"o": declared})))
        message = encode_answer("do", Resource(Phase.SUCCEEDED, outputs={"o": 3}), template)
        assert message.outputs.literals["o"].scalar.primitive.float_value == 3.0

    def test_a_phase_may_be_the_protocols_number(self) -> None:
        assert encode_answer("get", Resource(TaskExecution.RUNNING)).phase == TaskExecution.RUNNING  # type: ignore[arg-type]

    @pytest.mark.parametrize("phase", [TaskExecution.UNDEFINED, 99, None, "RUNNING"])
    def test_a_phase_that_is_none_is_refused(self, phase: Any) -> None:
        with pytest.raises(PluginCallError, match=r"phase .* none of QUEUED, .*RETRYABLE_FAILED"):
            encode_answer("get", Resource(phase))

    @pytest.mark.parametrize("answer", [None, {}, "SUCCEEDED", JobMeta("1")])
    def test_what_is_no_resource_is_refused(self, answer: object) -> None:
        described = "nothing" if answer is None else f"a {type(answer).__name__}"
        with pytest.raises(PluginCallError, match=f"returned {described}, not a Resource"):
            encode_answer("get", answer)

    @pytest.mark.parametrize("answer", [None, "job-1", b"job-1", Resource(Phase.QUEUED), JobMeta])
    def test_what_is_no_resource_meta_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"create\(\) returned .*, not a ResourceMeta"):
            encode_answer("create", answer)

    def test_a_resource_meta_that_encodes_to_text_is_refused(self) -> None:
        class TextMeta(ResourceMeta):
            def encode(self) -> bytes:
                return "text"  # type: ignore[return-value]

        with pytest.raises(PluginCallError, match=r"TextMeta\.encode\(\) returned a str, not bytes"):
            encode_answer("create", TextMeta())

    @pytest.mark.parametrize("value", [object(), datetime(2024, 1, 1), 2**70])  # noqa: DTZ001 - that is the point
    def test_an_output_that_has_no_literal_is_the_plugins_fault(self, value: object) -> None:
        with pytest.raises(PluginCallError, match="output") as caught:
            encode_answer("get", Resource(Phase.SUCCEEDED, outputs={"o": value}))
        assert caught.value.__cause__ is None  # it would choose the status

    @pytest.mark.parametrize("answer", [None, [], ()])
    def test_no_metrics_are_an_empty_list(self, answer: object) -> None:
        assert encode_answer("get_metrics", answer) == []

    def test_metrics_may_come_from_any_iterable(self) -> None:
        result = ExecutionMetricResult(metric="CPU")
        assert encode_answer("get_metrics", iter([result])) == [result]

    @pytest.mark.parametrize("answer", [5, {"CPU": 1}, [ExecutionMetricResult(), None], "CPU"])
    def test_what_is_no_metrics_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"get_metrics\(\) returned .*not .*ExecutionMetricResult"):
            encode_answer("get_metrics", answer)

    @pytest.mark.parametrize(
        ("answer", "page"),
        [
            ("line", LogPage(("line",))),
            (agent_pb2.LogLine(message="line"), LogPage((agent_pb2.LogLine(message="line"),))),
            (["a", "b"], LogPage(("a", "b"))),
            ([], LogPage()),
            (
                LogPage(iter("ab"), token="2"),  # type: ignore[arg-type]
                LogPage(("a", "b"), token="2"),
            ),
        ],
        ids=["line", "structured line", "list", "empty list", "page"],
    )
    def test_log_lines_and_pages_are_pages(self, answer: object, page: LogPage) -> None:
        assert encode_answer("get_logs", answer) == [page]

    def test_a_large_page_becomes_several(self) -> None:
        pages = encode_answer("get_logs", ["x" * 1000] * 5000)
        assert len(pages) > 1
        assert sum(len(page.lines) for page in pages) == 5000

    def test_a_message_that_no_wire_carries_is_mended(self) -> None:
        """A job whose last words hold a file name that is no UTF-8 has failed all the same."""
        assert encode_answer("get", Resource(Phase.FAILED, message="no caf\udce9.csv ☕")).message == "no caf?.csv ☕"

    @pytest.mark.parametrize("answer", [None, 5, ["a", 5], {"a": 1}, LogPage([b"a"]), LogPage("abc"), LogPage([], 5)])  # type: ignore[arg-type, list-item]
    def test_what_is_no_log_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"get_logs\(\) gave"):
            encode_answer("get_logs", answer)
