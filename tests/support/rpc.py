"""What tests ask of a gRPC channel beyond the typed calls: refusals, raw bytes, metrics."""

from collections.abc import AsyncIterable, Awaitable
from typing import Any

import grpc
import grpc.aio
import pytest

ASYNC = "flyteidl.service.AsyncAgentService"
SYNC = "flyteidl.service.SyncAgentService"
METADATA = "flyteidl.service.AgentMetadataService"


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Return the error with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def collected(stream: AsyncIterable[Any]) -> list[Any]:
    """Read a stream to its end."""
    return [message async for message in stream]


def details_of(error: grpc.aio.AioRpcError) -> str:
    """Return what a status says, which is never nothing."""
    details = error.details()
    assert details
    return details


def assert_hides_its_inside(error: grpc.aio.AioRpcError) -> None:
    """A status names plugin and operation, and shows nothing of the code that failed."""
    details = details_of(error)
    for hidden in ("Traceback", 'File "', ".py"):
        assert hidden not in details
