"""Answers of plugin code, converted for the wire in the place that runs the plugin's code."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core.errors import ConnectorError, IllegalAnswerError, LiteralError, PluginCallError
from connector_core.invocation.custom_info import Note, make_sendable, to_struct
from connector_core.invocation.faults import described
from connector_core.literals import to_literal_map
from connector_core.log_pages import cut_page
from connector_core.resource import TERMINAL_PHASES, BridgedResource, LogPage, Phase, Resource, to_task_log
from connector_core.resource_meta import ResourceMeta
from connector_core.texts import writable


def _say_nothing(_kind: str, _text: str) -> None:
    """Take no note."""


def encode_answer(operation: str, answer: Any, template: TaskTemplate | None = None, note: Note = _say_nothing) -> Any:
    """Return an answer as it goes on the wire.

    `create` gives the bytes of the resource meta, `get` and `do` an `agent_pb2.Resource`, `get_many` a list of them and of
    errors, `get_metrics` a list of `ExecutionMetricResult`, `get_logs` for each piece a list of `LogPage`s that fit into a
    message each, the others nothing.

    Args:
        operation: the operation's name.
        answer: what its method returned or yielded.
        template: declares the types that outputs become literals of, where the task is known.
        note: called with each thing that cannot be sent as it is and goes out in another form.

    Raises:
        IllegalAnswerError: it is not an answer, or holds something that cannot be sent. Asking again would only give it
            again, so this is not transient, unlike an exception of plugin code.
    """
    try:
        if operation == "get":
            return _encode_resource(answer, template, note)
        if operation == "do":
            return _encode_result(answer, template, note)
        if operation == "get_many":
            return _encode_resources(answer, note)
        encode = _ENCODERS.get(operation)
        return encode(answer) if encode is not None else None
    except ConnectorError:
        raise
    except Exception as error:
        raise IllegalAnswerError(
            f"returned a {type(answer).__name__} that cannot be sent: {described(error)}"
        ) from error


def _encode_result(answer: Any, template: TaskTemplate | None, note: Note) -> agent_pb2.Resource:
    resource = _encode_resource(answer, template, note)
    if int(resource.phase) not in TERMINAL_PHASES:
        raise IllegalAnswerError(
            f"do() returned {Phase(resource.phase).name}, but nothing asks again: return a last word"
        )
    return resource


def _encode_resource_meta(answer: Any) -> bytes:
    if not isinstance(answer, ResourceMeta):
        raise IllegalAnswerError(f"create() returned {_described(answer)}, not a ResourceMeta")
    encoded = answer.encode()
    if not isinstance(encoded, bytes):
        raise IllegalAnswerError(f"{type(answer).__name__}.encode() returned {_described(encoded)}, not bytes")
    return encoded


def _encode_resource(answer: Any, template: TaskTemplate | None, note: Note) -> agent_pb2.Resource:
    if isinstance(answer, BridgedResource | agent_pb2.Resource):
        return _encode_bridged(answer, note)
    if not isinstance(answer, Resource):
        raise IllegalAnswerError(f"returned {_described(answer)}, not a Resource")
    phase: object = answer.phase
    if not isinstance(phase, Phase):
        phase = _phase_of(phase)
    encoded = agent_pb2.Resource(phase=phase)  # type: ignore[arg-type] # the same numbers
    if answer.message:
        encoded.message = writable(answer.message)
    if answer.log_links:
        encoded.log_links.extend(map(to_task_log, answer.log_links))
    if answer.outputs is not None:
        if phase in TERMINAL_PHASES:
            encoded.outputs.CopyFrom(_encode_outputs(answer.outputs, template))
        else:
            _note_early_outputs(answer.outputs, note)
    if answer.custom_info is not None and (struct := to_struct(answer.custom_info, note)) is not None:
        encoded.custom_info.CopyFrom(struct)
    if answer.error_code:
        encoded.agent_error.code = answer.error_code
    return encoded


def _encode_bridged(answer: BridgedResource | agent_pb2.Resource, note: Note) -> agent_pb2.Resource:
    """Return what a bridge answers, which has another kind of connector's own conversion, with what can be sent of it."""
    resource, custom_info = answer if isinstance(answer, BridgedResource) else (answer, None)
    if not isinstance(resource, agent_pb2.Resource):
        raise IllegalAnswerError(f"returned {_described(resource)}, not a Resource")
    phase = _phase_of(resource.phase)
    if custom_info is not None and (struct := to_struct(custom_info, note)) is not None:
        resource.custom_info.CopyFrom(struct)
    elif resource.HasField("custom_info"):
        make_sendable(resource.custom_info, note)
    if resource.HasField("outputs") and phase not in TERMINAL_PHASES:
        _note_early_outputs(resource.outputs.literals, note)
        resource.ClearField("outputs")
    return resource


def _note_early_outputs(outputs: object, note: Note) -> None:
    if outputs:
        note("early outputs", "outputs of a job that has not ended are left out: return them with its last phase")


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


def _encode_resources(answer: Any, note: Note) -> list[agent_pb2.Resource | ConnectorError]:
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise IllegalAnswerError(f"get_many() returned {_described(answer)}, not a list of Resources and exceptions")
    return [_encode_one_of_many(item, note) for item in answer]


def _encode_one_of_many(item: Any, note: Note) -> agent_pb2.Resource | ConnectorError:
    """Return one job's answer, or its error: a fault in one answer must not fail the other jobs of the batch."""
    if isinstance(item, ConnectorError):
        return item
    if isinstance(item, BaseException):  # as `asyncio.gather` gives them, cancelled ones included
        error = PluginCallError(described(item))
        error.__cause__ = item
        return error
    try:
        resource: agent_pb2.Resource = encode_answer("get", item, note=note)
    except IllegalAnswerError as illegal:
        return illegal
    return resource


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
        raise IllegalAnswerError("get_logs() gave a LogPage whose lines are not a list or whose token is not a str")
    lines = tuple(page.lines)
    for line in lines:
        if not isinstance(line, str | agent_pb2.LogLine):
            raise IllegalAnswerError(f"get_logs() gave {_described(line)}, which is neither a line nor a LogPage")
    return cut_page(LogPage(lines, token))


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "create": _encode_resource_meta,
    "get_metrics": _encode_metrics,
    "get_logs": _encode_log_piece,
}


def _described(answer: object) -> str:
    return "nothing" if answer is None else f"a {type(answer).__name__}"
