"""A connector's methods as operations: what each may ask for, how it runs, and what its answer is on the wire."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.struct_pb2 import Struct

from connector_core.connector import ConnectorBase
from connector_core.errors import (
    ConnectorError,
    IllegalAnswerError,
    InvalidConnectorError,
    LiteralError,
    PluginCallError,
)
from connector_core.likeness import alike
from connector_core.literals import to_literal_map
from connector_core.logs import cut_page
from connector_core.resource import TERMINAL_PHASES, LogPage, Phase, Resource, ResourceMeta

_CREATE = (
    "task_template",
    "inputs",
    "literals",
    "output_prefix",
    "task_execution_metadata",
    "idempotency_key",
    "connection",
)
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "create": _CREATE,
    "do": _CREATE,
    "get": ("resource_meta", "output_prefix", "connection"),
    "get_many": ("resource_metas", "connections"),
    "delete": ("resource_meta", "connection"),
    "get_metrics": ("resource_meta", "queries", "start_time", "end_time", "step"),
    "get_logs": ("resource_meta", "lines", "token"),
    "start": (),
    "close": (),
}
"""What the host offers to each operation."""

REQUIRED = {"async": ("create", "get", "delete"), "sync": ("do",)}
DEADLINES = {"async": ("create", "get", "get_many", "delete", "get_metrics", "get_logs"), "sync": ("do",)}
"""Which operations of either kind of connector may have a deadline; `start_timeout` is that of `start` and `close`."""

T = TypeVar("T")


class Deferred(msgspec.Struct, Generic[T], frozen=True):
    """An argument that is worked out where plugin code runs, and only for an operation that asks for it."""

    work_out: Callable[[], T]


class Kind(Enum):
    """How a method has to be run: what it is called, whether it occupies a thread, whether it yields its answer in pieces."""

    COROUTINE = ("coroutine", False, False)
    BLOCKING = ("blocking", True, False)
    ASYNC_GENERATOR = ("async generator", False, True)
    GENERATOR = ("generator", True, True)

    def __init__(self, title: str, is_blocking: bool, is_stream: bool) -> None:
        self.title = title
        self.is_blocking = is_blocking
        self.is_stream = is_stream


class Operation(msgspec.Struct, frozen=True):
    """One method of one connector, inspected once at registration."""

    name: str
    function: Callable[..., Any]
    kind: Kind
    wanted: frozenset[str]

    def arguments(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Choose what the method asked for, working out what was deferred."""
        chosen = {}
        for name in self.wanted:
            if name in offered:
                value = offered[name]
                chosen[name] = value.work_out() if isinstance(value, Deferred) else value
        return chosen


def inspect_operations(connector: ConnectorBase) -> dict[str, Operation]:
    """Inspect every operation that a connector has.

    Raises:
        InvalidConnectorError: naming the class and the method that cannot be called as it is written.
    """
    found = {}
    for name in ARGUMENTS:
        function = getattr(connector, name, None)
        if callable(function):
            found[name] = _inspect(connector, name, function)
    return found


def _inspect(connector: ConnectorBase, name: str, function: Callable[..., Any]) -> Operation:
    where = f"{type(connector).__module__}.{type(connector).__qualname__}.{name}"
    offered = ARGUMENTS[name]
    wanted: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            wanted.update(offered)
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidConnectorError(f"{where}() takes {parameter.name!r} by position only; the host passes names")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in offered:
            wanted.add(parameter.name)
        elif parameter.default is parameter.empty:
            raise InvalidConnectorError(_unknown_argument(where, parameter.name, offered))
    kind = _kind(function)
    _refuse_stream(where, name, kind)
    return Operation(name, function, kind, frozenset(wanted))


def _unknown_argument(where: str, name: str, offered: tuple[str, ...]) -> str:
    near = alike(name, offered)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    known = f"it can have {', '.join(offered)}" if offered else "it can have none"
    return f"{where}() asks for an argument {name!r} that does not exist{hint}: {known}"


def _kind(function: Callable[..., Any]) -> Kind:
    """The outermost layer that is more than a plain function decides: decorators make blocking functions async, too."""
    for layer in _layers(function):
        if inspect.isasyncgenfunction(layer):
            return Kind.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(getattr(layer, "__call__", None)):  # noqa: B004
            return Kind.COROUTINE
        if inspect.isgeneratorfunction(layer):
            return Kind.GENERATOR
    return Kind.BLOCKING


def _layers(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Give a callable, then what a decorator or a partial has wrapped in it, down to the innermost."""
    seen: set[int] = set()
    layer: Callable[..., Any] | None = function
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        layer = layer.func if isinstance(layer, functools.partial) else getattr(layer, "__wrapped__", None)


def _refuse_stream(where: str, name: str, kind: Kind) -> None:
    if not kind.is_stream or name == "get_logs" or (name == "get_metrics" and kind is Kind.GENERATOR):
        return
    article = "an" if kind is Kind.ASYNC_GENERATOR else "a"
    raise InvalidConnectorError(f"{where}() is {article} {kind.title}, but has one answer: return it, do not yield")


def encode_answer(operation: str, answer: Any, offered: Mapping[str, Any]) -> Any:
    """Turn what plugin code answered into what goes on the wire; runs where plugin code runs.

    `create` gives the bytes of the resource meta, `get` and `do` an `agent_pb2.Resource`, `get_many` a list of them and of
    errors, `get_metrics` a list of `ExecutionMetricResult`, `get_logs` for each piece a list of `LogPage`s that fit into a
    message each, the others nothing. Where a task template was offered, outputs become literals of the types that it
    declares.

    Raises:
        IllegalAnswerError: the answer is none.
    """
    if operation == "get":
        return _encode_resource(answer, offered.get("task_template"))
    if operation == "do":
        resource = _encode_resource(answer, offered.get("task_template"))
        if int(resource.phase) not in TERMINAL_PHASES:
            raise IllegalAnswerError(
                f"do() returned {Phase(resource.phase).name}, but nothing asks again: return a last word"
            )
        return resource
    encode = _ENCODERS.get(operation)
    return encode(answer) if encode is not None else None


def _encode_resource_meta(answer: Any) -> bytes:
    if not isinstance(answer, ResourceMeta):
        raise IllegalAnswerError(f"create() returned {_described(answer)}, not a ResourceMeta")
    encoded = answer.encode()
    if not isinstance(encoded, bytes):
        raise IllegalAnswerError(f"{type(answer).__name__}.encode() returned {_described(encoded)}, not bytes")
    return encoded


def _encode_resource(answer: Any, template: TaskTemplate | None) -> agent_pb2.Resource:
    if not isinstance(answer, Resource | agent_pb2.Resource):
        raise IllegalAnswerError(f"returned {_described(answer)}, not a Resource")
    phase: object = answer.phase
    if not isinstance(phase, Phase):
        phase = _phase_of(phase)
    if isinstance(answer, agent_pb2.Resource):
        return answer  # of a bridge, which has another kind of connector's own conversion
    encoded = agent_pb2.Resource(phase=phase)  # type: ignore[arg-type] # the same numbers
    if answer.message:
        encoded.message = _valid(answer.message)
    if answer.log_links:
        encoded.log_links.extend([link.to_flyte() for link in answer.log_links])
    if answer.outputs is not None:
        encoded.outputs.CopyFrom(_encode_outputs(answer.outputs, template))
    if answer.custom_info is not None:
        encoded.custom_info.CopyFrom(_struct(answer.custom_info))
    if answer.error_code:
        encoded.agent_error.code = answer.error_code
    return encoded


def _struct(values: Mapping[str, Any]) -> Struct:
    from google.protobuf.json_format import ParseDict

    struct: Struct = ParseDict(dict(values), Struct())
    return struct


def _phase_of(answered: object) -> Phase:
    try:
        return Phase(answered)  # type: ignore[arg-type] # whatever it is
    except ValueError:
        known = ", ".join(one.name for one in Phase)
        raise IllegalAnswerError(f"returned a Resource in phase {answered!r}, which is none of {known}") from None


def _encode_outputs(outputs: Mapping[str, Any] | LiteralMap, template: TaskTemplate | None) -> LiteralMap:
    if isinstance(outputs, LiteralMap):
        return outputs
    declared = template.interface.outputs.variables if template is not None else {}
    try:
        return to_literal_map(outputs, {name: variable.type for name, variable in declared.items()})
    except LiteralError as error:
        raise IllegalAnswerError(f"returned outputs that cannot be sent: {error}") from None


def _encode_resources(answer: Any) -> list[agent_pb2.Resource | ConnectorError]:
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise IllegalAnswerError(f"get_many() returned {_described(answer)}, not a list of Resources and exceptions")
    return [_encode_one_of_many(one) for one in answer]


def _encode_one_of_many(answer: Any) -> agent_pb2.Resource | ConnectorError:
    if isinstance(answer, ConnectorError):
        return answer
    if isinstance(answer, Exception):
        error = PluginCallError(f"{type(answer).__name__}: {answer}")
        error.__cause__ = answer
        return error
    try:
        return _encode_resource(answer, None)
    except IllegalAnswerError as error:
        return error


def _encode_metrics(answer: Any) -> list[ExecutionMetricResult]:
    if answer is None:
        return []
    if not isinstance(answer, Iterable):
        raise IllegalAnswerError(f"get_metrics() returned {_described(answer)}, not a list of ExecutionMetricResult")
    results = list(answer)
    for one in results:
        if not isinstance(one, ExecutionMetricResult):
            raise IllegalAnswerError(f"get_metrics() returned {_described(one)}, not an ExecutionMetricResult")
    return results


def _encode_log_piece(answer: Any) -> list[LogPage]:
    page = answer if isinstance(answer, LogPage) else LogPage(answer if isinstance(answer, list | tuple) else (answer,))
    token: object = page.token
    if not isinstance(token, str) or isinstance(page.lines, str):
        raise IllegalAnswerError("get_logs() gave a LogPage whose lines are no list or whose token is no str")
    lines = tuple(page.lines)
    for line in lines:
        if not isinstance(line, str | agent_pb2.LogLine):
            raise IllegalAnswerError(f"get_logs() gave {_described(line)}, which is neither a line nor a LogPage")
    return cut_page(LogPage(lines, token))


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "create": _encode_resource_meta,
    "get_many": _encode_resources,
    "get_metrics": _encode_metrics,
    "get_logs": _encode_log_piece,
}


def _valid(text: Any) -> Any:
    """Replace what no wire carries: the lone surrogates of file names that are no UTF-8, as in a job's last message."""
    return text.encode(errors="replace").decode() if isinstance(text, str) and not text.isascii() else text


def _described(answer: object) -> str:
    return "nothing" if answer is None else f"a {type(answer).__name__}"
