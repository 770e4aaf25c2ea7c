"""A connector's methods are inspected once: what each asks for, and how it has to be run."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from connector_core import Phase, Resource
from connector_core.errors import InvalidConnectorError
from connector_core.inspection import Method, inspect_methods
from connector_core.operations import OPERATIONS, Kind
from tests.fakes import Answers, JobMeta, Jobs


def inspected(name: str, function: Callable[..., Any]) -> Method:
    """Inspect one method of a connector."""
    methods: dict[str, Any] = {name: function}
    return inspect_methods(Jobs(**methods))[name]


class TestArguments:
    def test_a_method_gets_only_what_it_names(self) -> None:
        assert inspected("create", lambda task_template, inputs: None).wanted == {"task_template", "inputs"}

    def test_a_method_may_ask_for_nothing(self) -> None:
        assert inspected("delete", lambda: None).wanted == frozenset()

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_kwargs_get_everything(self, name: str) -> None:
        assert inspected(name, lambda **kwargs: None).wanted == set(OPERATIONS[name].arguments)

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


class TestWhichOperations:
    def test_optional_ones_are_there_if_the_connector_has_them(self) -> None:
        assert set(inspect_methods(Jobs())) == {"create", "get", "delete"}
        assert set(inspect_methods(Jobs(get_logs=generator, start=lambda: None))) == {
            "create", "get", "delete", "get_logs", "start",
        }  # fmt: skip

    def test_an_attribute_that_cannot_be_called_is_none(self) -> None:
        assert "get_logs" not in inspect_methods(Jobs(get_logs=None))

    def test_a_method_set_on_the_instance_replaces_the_classs(self) -> None:
        def create() -> None: ...

        assert inspect_methods(Jobs(create=create))["create"].function is create

    def test_methods_come_bound(self) -> None:
        connector = Jobs()
        assert inspect_methods(connector)["get"].function == connector.get


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
        assert inspect_methods(Decorated())[name].kind is Kind.COROUTINE

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
            inspect_methods(Answers(do=do))

    def test_metrics_may_be_yielded_by_a_plain_generator(self) -> None:
        assert inspected("get_metrics", generator).kind is Kind.GENERATOR


def _without_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(function, None) if function is async_generator else function
