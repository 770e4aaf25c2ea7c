"""A connector's methods are inspected once: what each asks for, how it runs, and what its answer is on the wire."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
from connector_core.errors import InvalidConnectorError, PluginCallError
from connector_core.literals import to_literal_map, to_python_map
from connector_core.operations import ARGUMENTS, Deferred, Kind, Operation, encode_answer, inspect_operations
from tests.fakes import Answers, JobMeta, Jobs


def inspected(name: str, function: Callable[..., Any]) -> Operation:
    """Inspect one method of a connector."""
    methods: dict[str, Any] = {name: function}
    return inspect_operations(Jobs(**methods))[name]


class TestArguments:
    def test_a_method_gets_only_what_it_names(self) -> None:
        operation = inspected("create", lambda task_template, inputs: None)
        offered = {name: name.upper() for name in ARGUMENTS["create"]}
        assert operation.arguments(offered) == {"task_template": "TASK_TEMPLATE", "inputs": "INPUTS"}

    def test_a_method_may_ask_for_nothing(self) -> None:
        assert inspected("delete", lambda: None).arguments({"resource_meta": 1}) == {}

    @pytest.mark.parametrize("name", ARGUMENTS)
    def test_kwargs_get_everything(self, name: str) -> None:
        assert inspected(name, lambda **kwargs: None).wanted == set(ARGUMENTS[name])

    def test_named_arguments_beside_kwargs_come_once(self) -> None:
        assert inspected("get", lambda resource_meta, **kwargs: None).wanted == {
            "resource_meta",
            "output_prefix",
            "connection",
        }

    def test_positional_varargs_are_left_empty(self) -> None:
        assert inspected("get", lambda resource_meta, *args: None).wanted == {"resource_meta"}

    def test_keyword_only_arguments_are_as_good(self) -> None:
        def get(*, resource_meta: JobMeta) -> None: ...

        assert inspected("get", get).wanted == {"resource_meta"}

    def test_an_argument_of_the_authors_own_may_have_a_default(self) -> None:
        assert inspected("get", lambda resource_meta, retries=3: None).wanted == {"resource_meta"}

    def test_an_offered_argument_is_passed_even_if_it_has_a_default(self) -> None:
        assert inspected("get", lambda resource_meta, output_prefix="": None).wanted == {
            "resource_meta",
            "output_prefix",
        }

    def test_an_unknown_argument_is_refused_with_the_near_name_and_all_names(self) -> None:
        message = (
            r"tests\.fakes\.Jobs\.create\(\) asks for an argument 'input' that does not exist \(did you mean 'inputs'\?\): "
            r"it can have task_template, inputs, literals, output_prefix, task_execution_metadata, idempotency_key"
        )
        with pytest.raises(InvalidConnectorError, match=message):
            inspected("create", lambda input: None)  # noqa: A006

    def test_an_argument_that_another_operation_has_is_unknown_here(self) -> None:
        with pytest.raises(InvalidConnectorError, match=r"delete\(\) asks for an argument 'output_prefix'"):
            inspected("delete", lambda resource_meta, output_prefix: None)

    @pytest.mark.parametrize("name", ["start", "close"])
    def test_start_and_close_have_no_arguments(self, name: str) -> None:
        with pytest.raises(InvalidConnectorError, match=rf"{name}\(\).*'config'.*it can have none"):
            inspected(name, lambda config: None)

    def test_a_positional_only_argument_is_refused(self) -> None:
        def get(resource_meta: JobMeta, /) -> None: ...

        with pytest.raises(InvalidConnectorError, match=r"get\(\) takes 'resource_meta' by position only"):
            inspected("get", get)

    def test_deferred_arguments_are_worked_out_for_those_that_ask(self) -> None:
        worked_out = []

        def work_out() -> str:
            worked_out.append(1)
            return "value"

        offered = {"inputs": Deferred(work_out)}
        assert inspected("create", lambda: None).arguments(offered) == {}
        assert not worked_out
        assert inspected("create", lambda inputs: None).arguments(offered) == {"inputs": "value"}


class TestWhichOperations:
    def test_optional_ones_are_there_if_the_connector_has_them(self) -> None:
        assert set(inspect_operations(Jobs())) == {"create", "get", "delete"}
        assert set(inspect_operations(Jobs(get_logs=generator, start=lambda: None))) == {
            "create", "get", "delete", "get_logs", "start",
        }  # fmt: skip

    def test_an_attribute_that_cannot_be_called_is_none(self) -> None:
        assert "get_logs" not in inspect_operations(Jobs(get_logs=None))

    def test_a_method_set_on_the_instance_replaces_the_classs(self) -> None:
        def create() -> None: ...

        assert inspect_operations(Jobs(create=create))["create"].function is create

    def test_methods_come_bound(self) -> None:
        connector = Jobs()
        assert inspect_operations(connector)["get"].function == connector.get


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as most are: a plain function around whatever it is."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def in_a_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """A decorator that makes a blocking function an async one."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    return wrapper


async def coroutine(resource_meta: JobMeta) -> None: ...


def blocking(resource_meta: JobMeta) -> None: ...


async def async_generator(resource_meta: JobMeta) -> AsyncIterator[str]:
    yield ""


def generator(resource_meta: JobMeta) -> Iterator[str]:
    yield ""


class Callables:
    """An object in the place of a function."""

    async def __call__(self, resource_meta: JobMeta) -> None: ...


class Decorated(Jobs):
    @passes_on
    async def get(self, resource_meta: JobMeta) -> Resource:
        return Resource(Phase.RUNNING)

    @in_a_thread
    def delete(self, resource_meta: JobMeta) -> None:  # type: ignore[override]
        return None

    create = functools.partialmethod(Jobs.create)

    @staticmethod
    async def start() -> None: ...

    @classmethod
    async def close(cls) -> None: ...


class TestKinds:
    @pytest.mark.parametrize(
        ("function", "kind"),
        [
            (coroutine, Kind.COROUTINE),
            (blocking, Kind.BLOCKING),
            (async_generator, Kind.ASYNC_GENERATOR),
            (generator, Kind.GENERATOR),
        ],
        ids=lambda value: value.name if isinstance(value, Kind) else "",
    )
    @pytest.mark.parametrize(
        "wrapped",
        [lambda function: function, functools.partial, passes_on, lambda function: passes_on(passes_on(function))],
        ids=["bare", "partial", "decorated", "decorated twice"],
    )
    def test_the_kind_shows_through_partials_and_decorators(
        self, function: Callable[..., Any], kind: Kind, wrapped: Callable[[Any], Any]
    ) -> None:
        assert inspected("get_logs", wrapped(function)).kind is kind

    def test_a_decorator_that_makes_a_blocking_function_async_makes_it_async(self) -> None:
        assert inspected("get", in_a_thread(blocking)).kind is Kind.COROUTINE

    def test_a_partial_of_a_decorated_function_is_seen_through_as_well(self) -> None:
        assert inspected("get", functools.partial(passes_on(coroutine))).kind is Kind.COROUTINE
        assert inspected("get", passes_on(functools.partial(coroutine))).kind is Kind.COROUTINE

    def test_an_object_with_an_async_call_is_async(self) -> None:
        assert inspected("get", Callables()).kind is Kind.COROUTINE

    @pytest.mark.parametrize("name", ["create", "get", "delete", "start", "close"])
    def test_decorated_methods_of_a_class_are_seen_through(self, name: str) -> None:
        assert inspect_operations(Decorated())[name].kind is Kind.COROUTINE

    def test_arguments_are_those_of_the_decorated_function(self) -> None:
        assert inspected("get", passes_on(coroutine)).wanted == {"resource_meta"}

    def test_arguments_that_a_partial_has_filled_are_not_asked_for(self) -> None:
        def get(client: object, resource_meta: JobMeta) -> None: ...

        assert inspected("get", functools.partial(get, object())).wanted == {"resource_meta"}

    @pytest.mark.parametrize(
        ("kind", "is_blocking", "is_stream"),
        [
            (Kind.COROUTINE, False, False),
            (Kind.BLOCKING, True, False),
            (Kind.ASYNC_GENERATOR, False, True),
            (Kind.GENERATOR, True, True),
        ],
    )
    def test_a_kind_says_how_to_run_it(self, kind: Kind, is_blocking: bool, is_stream: bool) -> None:
        assert (kind.is_blocking, kind.is_stream) == (is_blocking, is_stream)

    @pytest.mark.parametrize("name", ["create", "get", "delete", "start", "close"])
    @pytest.mark.parametrize("yields", [lambda: (yield), async_generator], ids=["generator", "async generator"])
    def test_a_method_with_one_answer_must_not_yield(self, name: str, yields: Callable[..., Any]) -> None:
        with pytest.raises(InvalidConnectorError, match=rf"Jobs\.{name}\(\) is an? (async )?generator.*return"):
            inspected(name, _without_arguments(yields))

    def test_do_must_not_yield(self) -> None:
        def do() -> Iterator[None]:
            yield

        with pytest.raises(InvalidConnectorError, match=r"Answers\.do\(\) is a generator"):
            inspect_operations(Answers(do=do))

    def test_metrics_may_be_yielded_by_a_plain_generator(self) -> None:
        assert inspected("get_metrics", generator).kind is Kind.GENERATOR


def _without_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(function, None) if function is async_generator else function


def encoded(operation: str, answer: Any, template: TaskTemplate | None = None) -> Any:
    """Encode an answer as for a call that was offered a template, if there is one."""
    return encode_answer(operation, answer, {} if template is None else {"task_template": template})


class TestAnswers:
    def test_a_resource_meta_is_its_bytes(self) -> None:
        assert encoded("create", JobMeta("1")) == JobMeta("1").encode()

    @pytest.mark.parametrize("operation", ["delete", "start", "close"])
    @pytest.mark.parametrize("answer", [None, "anything"])
    def test_what_nobody_asks_for_is_dropped(self, operation: str, answer: object) -> None:
        assert encoded(operation, answer) is None

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
        message = encoded(operation, resource)
        assert isinstance(message, agent_pb2.Resource)
        assert message.phase == TaskExecution.FAILED
        assert to_python_map(message.outputs) == {"rows": 3}
        assert message.message == "no such table"
        assert [link.uri for link in message.log_links] == ["http://example.test/1"]
        assert MessageToDict(message.custom_info) == {"query_id": "q1", "stages": [1, {"ok": True}]}
        assert message.agent_error.code == "TABLE_MISSING"

    def test_what_a_resource_leaves_out_is_not_there(self) -> None:
        message = encoded("get", Resource(Phase.RUNNING))
        assert not message.HasField("outputs")
        assert not message.HasField("custom_info")
        assert not message.HasField("agent_error")

    def test_outputs_may_be_literals_already(self) -> None:
        literals = to_literal_map({"a": 1})
        assert encoded("get", Resource(Phase.SUCCEEDED, outputs=literals)).outputs == literals
        assert isinstance(literals, LiteralMap)

    def test_outputs_take_the_types_that_the_template_declares(self) -> None:
        declared = Variable(type=LiteralType(simple=SimpleType.FLOAT))
        template = TaskTemplate(interface=TypedInterface(outputs=VariableMap(variables={"o": declared})))
        message = encoded("do", Resource(Phase.SUCCEEDED, outputs={"o": 3}), template)
        assert message.outputs.literals["o"].scalar.primitive.float_value == 3.0

    def test_a_phase_may_be_the_protocols_number(self) -> None:
        assert encoded("get", Resource(TaskExecution.RUNNING)).phase == TaskExecution.RUNNING  # type: ignore[arg-type]

    @pytest.mark.parametrize("phase", [TaskExecution.UNDEFINED, 99, None, "RUNNING"])
    def test_a_phase_that_is_none_is_refused(self, phase: Any) -> None:
        with pytest.raises(PluginCallError, match=r"phase .* none of QUEUED, .*RETRYABLE_FAILED"):
            encoded("get", Resource(phase))

    @pytest.mark.parametrize("answer", [None, {}, "SUCCEEDED", JobMeta("1")])
    def test_what_is_no_resource_is_refused(self, answer: object) -> None:
        described = "nothing" if answer is None else f"a {type(answer).__name__}"
        with pytest.raises(PluginCallError, match=f"returned {described}, not a Resource"):
            encoded("get", answer)

    @pytest.mark.parametrize("answer", [None, "job-1", b"job-1", Resource(Phase.QUEUED), JobMeta])
    def test_what_is_no_resource_meta_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"create\(\) returned .*, not a ResourceMeta"):
            encoded("create", answer)

    def test_a_resource_meta_that_encodes_to_text_is_refused(self) -> None:
        class TextMeta(ResourceMeta):
            def encode(self) -> bytes:
                return "text"  # type: ignore[return-value]

        with pytest.raises(PluginCallError, match=r"TextMeta\.encode\(\) returned a str, not bytes"):
            encoded("create", TextMeta())

    @pytest.mark.parametrize("value", [object(), datetime(2024, 1, 1), 2**70])  # noqa: DTZ001 - that is the point
    def test_an_output_that_has_no_literal_is_the_plugins_fault(self, value: object) -> None:
        with pytest.raises(PluginCallError, match="output") as caught:
            encoded("get", Resource(Phase.SUCCEEDED, outputs={"o": value}))
        assert caught.value.__cause__ is None  # it would choose the status

    @pytest.mark.parametrize("answer", [None, [], ()])
    def test_no_metrics_are_an_empty_list(self, answer: object) -> None:
        assert encoded("get_metrics", answer) == []

    def test_metrics_may_come_from_any_iterable(self) -> None:
        result = ExecutionMetricResult(metric="CPU")
        assert encoded("get_metrics", iter([result])) == [result]

    @pytest.mark.parametrize("answer", [5, {"CPU": 1}, [ExecutionMetricResult(), None], "CPU"])
    def test_what_is_no_metrics_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"get_metrics\(\) returned .*not .*ExecutionMetricResult"):
            encoded("get_metrics", answer)

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
        assert encoded("get_logs", answer) == [page]

    def test_a_large_page_becomes_several(self) -> None:
        pages = encoded("get_logs", ["x" * 1000] * 5000)
        assert len(pages) > 1
        assert sum(len(page.lines) for page in pages) == 5000

    def test_a_message_that_no_wire_carries_is_mended(self) -> None:
        """A job whose last words hold a file name that is no UTF-8 has failed all the same."""
        assert encoded("get", Resource(Phase.FAILED, message="no caf\udce9.csv ☕")).message == "no caf?.csv ☕"

    @pytest.mark.parametrize("answer", [None, 5, ["a", 5], {"a": 1}, LogPage([b"a"]), LogPage("abc"), LogPage([], 5)])  # type: ignore[arg-type, list-item]
    def test_what_is_no_log_is_refused(self, answer: object) -> None:
        with pytest.raises(PluginCallError, match=r"get_logs\(\) gave"):
            encoded("get_logs", answer)
