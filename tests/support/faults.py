"""What bad plugins raise, and what a test asks of a host that serves one."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio
import pytest
from google.rpc.status_pb2 import Status

from connector_core import PermanentError, Phase, RateLimitedError, TransientError
from connector_core.connector import ConnectorBase
from connector_core.errors import ConnectorError
from connector_core.secrets import get_secret
from connector_core.testing import RunningServer, running_server
from tests.fakes import Answers, Jobs, eventually

SECRET = "hunter2-and-nobody-else"
CLIENT_LIMIT = 4 * 1024 * 1024
"""Bytes that the engine receives in one message."""

ERROR_LIMIT = 8 * 1024
"""Bytes of metadata that a client takes by default; a status that has more reaches it as another one."""

Fault = Callable[[], Any]


class OutOfReachError(BaseException):
    """What `except Exception` does not catch."""


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("there is no text")


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit("the text asks to leave")


def raises(error: BaseException | type[BaseException]) -> Callable[[], NoReturn]:
    """Return a function that raises it, holding a secret as plugins do."""

    def fault() -> NoReturn:
        password = get_secret("password")  # in the frame, as any traceback with local variables would show
        assert password.get_secret_value() == SECRET
        raise error

    return fault


def recurse() -> NoReturn:
    recurse()


def endless(error_type: type[Exception]) -> Fault:
    def fault() -> NoReturn:
        raise error_type("x" * 50_000_000)

    return fault


RAISED: Mapping[str, tuple[Fault, str]] = {
    "an exception": (raises(RuntimeError("out of order")), "RuntimeError: out of order"),
    "a BaseException": (raises(OutOfReachError("beyond")), "OutOfReachError: beyond"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "GeneratorExit": (raises(GeneratorExit), "GeneratorExit"),
    "StopIteration": (raises(StopIteration), "StopIteration"),
    "StopAsyncIteration": (raises(StopAsyncIteration), "StopAsyncIteration"),
    "SystemExit": (lambda: sys.exit(3), "the plugin called sys.exit(3)"),
    "CancelledError": (raises(asyncio.CancelledError), "the plugin cancelled its own call"),
    "RecursionError": (recurse, "RecursionError: maximum recursion depth exceeded"),
    "a group": (raises(BaseExceptionGroup("both", [SystemExit(1), ValueError()])), "both (2 sub-exceptions)"),
    "what cannot be printed": (raises(UnprintableError()), "UnprintableError: (it cannot be printed)"),
    "what exits when it is printed": (raises(ExitingError()), "ExitingError: (it cannot be printed)"),
    "a text that is no text": (raises(OSError("\udc80")), "OSError: ?"),
    "50 MB of text": (endless(RuntimeError), "RuntimeError: xxx"),
}
"""What plugin code raises that is not from `connector_core.errors`, and what the answer says of it."""


class WithoutInitError(PermanentError):
    def __init__(self) -> None:
        self.detail = "forgot to call super"


class WithoutDelayError(RateLimitedError):
    def __init__(self) -> None:
        Exception.__init__(self)


class ReadOnlyError(TransientError):
    def __init__(self) -> None:
        Exception.__init__(self)

    @property
    def plugin(self) -> str:  # type: ignore[override]
        return "mine"


class OwnTextError(TransientError):
    def __str__(self) -> str:
        raise SystemExit("the text asks to leave")


def odd(error: ConnectorError, **attributes: Any) -> Fault:
    for name, value in attributes.items():
        setattr(error, name, value)
    return raises(error)


INVALID: Mapping[str, tuple[Fault, grpc.StatusCode, str]] = {
    "no __init__": (raises(WithoutInitError()), grpc.StatusCode.FAILED_PRECONDITION, "WithoutInitError"),
    "no retry_after": (raises(WithoutDelayError()), grpc.StatusCode.RESOURCE_EXHAUSTED, "WithoutDelayError"),
    "a read-only attribute": (raises(ReadOnlyError()), grpc.StatusCode.UNAVAILABLE, "ReadOnlyError"),
    "a text that exits": (raises(OwnTextError("cold")), grpc.StatusCode.UNAVAILABLE, "cold"),
    "a message that is none": (odd(TransientError(), message=None), grpc.StatusCode.UNAVAILABLE, "TransientError"),
    "a message of lone surrogates": (raises(PermanentError("\udc80")), grpc.StatusCode.FAILED_PRECONDITION, "?"),
    "an endless message": (endless(TransientError), grpc.StatusCode.UNAVAILABLE, "xxx"),
    "a number for a code": (odd(PermanentError("no"), error_code=5), grpc.StatusCode.FAILED_PRECONDITION, "no"),
    "no fault of anybody": (odd(TransientError("cold"), fault=None), grpc.StatusCode.UNAVAILABLE, "cold"),
    "a text for a delay": (odd(RateLimitedError("hot"), retry_after="soon"), grpc.StatusCode.RESOURCE_EXHAUSTED, "hot"),
    "NaN for a delay": (
        odd(RateLimitedError("hot"), retry_after=float("nan")),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "hot",
    ),
}
"""Errors of `connector_core.errors` as authors may derive or fill them, the code, and what the answer says."""


def as_method(fault: Fault, *, is_async: bool) -> Callable[..., Any]:
    """Return a connector's method that does nothing but that."""

    async def method() -> Any:
        return fault()

    return method if is_async else lambda: fault()


@asynccontextmanager
async def host_of(*bad: ConnectorBase, abandoned: int = 0, **settings: Any) -> AsyncIterator[RunningServer]:
    """Serve bad connectors beside good ones; at the end the good ones serve as ever, and nothing is miscounted."""
    async with running_server(*bad, Jobs("good"), Answers("good_answer"), settings=settings) as host:
        yield host
        await others_are_served(host)
        await eventually(lambda: not in_flight(host))
        await eventually(lambda: host.server.invoker.abandoned == abandoned)


async def others_are_served(host: RunningServer) -> None:
    """ListAgents, health and calls of the other plugins answer as ever."""
    assert {"good connector", "good_answer connector"} < {agent.name for agent in await host.list_connectors()}
    assert await host.health() == "SERVING"
    resource_meta = await host.create("good", {"id": "7"})
    assert Phase((await host.get("good", resource_meta)).phase) is Phase.SUCCEEDED
    await host.delete("good", resource_meta)
    assert Phase((await host.execute("good_answer", {"n": 1})).phase) is Phase.SUCCEEDED


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Return the status with which a call fails, once it is sure that nothing of the host's inside is in it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert_clean(caught.value)
    return caught.value


def assert_clean(error: grpc.aio.AioRpcError) -> None:
    """A status is of moderate size, means what it says, and has neither traceback nor secret."""
    details = error.details() or ""
    metadata = error.trailing_metadata() or ()
    assert error.code() is not grpc.StatusCode.UNKNOWN, details
    assert "internal error in the host" not in details
    rich_statuses = [value for key, value in metadata if key == "grpc-status-details-bin" and isinstance(value, bytes)]
    for rich in map(Status.FromString, rich_statuses):
        assert rich.code == error.code().value[0]
    everything = details + "".join(str(value) for _key, value in metadata)
    assert len(everything) < ERROR_LIMIT
    for inside in ("Traceback", 'File "', "site-packages", "connector_core/", SECRET):
        assert inside not in everything


def in_flight(host: RunningServer) -> dict[str, float]:
    """Return what the host counts as being worked on, by operation."""
    return {
        f"{sample.labels['operation']} of {sample.labels['task_type']}": sample.value
        for family in host.server.metrics.registry.collect()
        if family.name == "flyte_connector_requests_in_flight"
        for sample in family.samples
        if sample.value
    }


def failures(host: RunningServer, task_type: str) -> dict[str, float]:
    """Return how many requests for a task type have failed, by operation and code."""
    return {
        f"{sample.labels['operation']} {sample.labels['error_code']}": sample.value
        for family in host.server.metrics.registry.collect()
        if family.name == "flyte_connector_requests_failure"
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["task_type"] == task_type
    }


async def read_logs(host: RunningServer, task_type: str, resource_meta: bytes) -> list[Any]:
    """Return all messages of GetTaskLogs."""
    return [message async for message in host.get_logs(task_type, resource_meta)]
