"""From the host's arguments to flytekit's model objects, and from flytekit's answers to the host's."""

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl.admin.agent_pb2 import GetTaskLogsResponse, GetTaskMetricsResponse
from flytekit.exceptions.user import FlyteUserException
from flytekit.models.literals import LiteralMap
from flytekit.models.task import TaskExecutionMetadata, TaskTemplate

from connector_core import LogPage
from connector_core.errors import IllegalAnswerError
from connector_core.resource import BridgedResource, taken_apart, without_early_outputs
from connector_plugin_flytekit.metas import BridgedMeta

_MODELS = {"task_template": TaskTemplate, "inputs": LiteralMap, "task_execution_metadata": TaskExecutionMetadata}


def their_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as flytekit's server passes them."""
    arguments = {("inputs" if name == "literals" else name): value for name, value in given.items()}
    for name, value in arguments.items():
        if (model := _MODELS.get(name)) is not None:
            arguments[name] = model.from_flyte_idl(value)
        elif isinstance(value, BridgedMeta):
            arguments[name] = value.theirs
    return arguments


async def our_answer(operation: str, kind: type[BridgedMeta] | None, answer: Any) -> Any:
    """Return an answer as the host takes it; anything else goes to the host as it is, which refuses it.

    Raises:
        IllegalAnswerError: flytekit cannot convert the outputs, and asking again would only give them again.
    """
    if operation in {"get", "do"} and callable(getattr(answer, "to_flyte_idl", None)):
        bare, custom_info = taken_apart(answer)
        return BridgedResource(await _converted(bare), custom_info)
    return our_plain_answer(operation, kind, answer)


async def _converted(answer: Any) -> Any:
    try:
        converted = answer.to_flyte_idl()
        return await converted if inspect.isawaitable(converted) else converted
    except (TypeError, ValueError, AssertionError, FlyteUserException) as error:
        if (running := without_early_outputs(answer)) is not None:
            return await _converted(running)
        what = f"{type(answer).__name__} that cannot be sent: {type(error).__name__}: {error}"
        raise IllegalAnswerError(f"returned a {what}") from error


def our_answer_of_a_thread(operation: str, kind: type[BridgedMeta] | None, answer: Any) -> Any:
    """As `our_answer`, for code that blocks a thread which has no loop."""
    if inspect.isawaitable(answer) or operation in {"get", "do"}:
        return asyncio.run(_in_a_loop(operation, kind, answer))
    return our_plain_answer(operation, kind, answer)


async def _in_a_loop(operation: str, kind: type[BridgedMeta] | None, answer: Any) -> Any:
    return await our_answer(operation, kind, await answer if inspect.isawaitable(answer) else answer)


def our_plain_answer(operation: str, kind: type[BridgedMeta] | None, answer: Any) -> Any:
    """Return an answer that takes no waiting to convert."""
    if operation == "create" and kind is not None and callable(getattr(answer, "encode", None)):
        return kind(answer)
    if operation == "get_metrics" and isinstance(answer, GetTaskMetricsResponse):
        return list(answer.results)
    if operation == "get_logs":
        return our_page(answer)
    return answer


def our_page(answer: Any) -> Any:
    """Return log lines as the host takes them; an answer, or a list of answers, of the protocol becomes a page."""
    parts = answer if isinstance(answer, list | tuple) else [answer]
    if not parts or not all(isinstance(part, GetTaskLogsResponse) for part in parts):
        return answer
    return LogPage(tuple(_lines(parts)), "".join(part.header.token for part in parts))


def _lines(parts: Iterable[GetTaskLogsResponse]) -> Iterable[Any]:
    for part in parts:
        yield from part.body.structured_lines or part.body.results
