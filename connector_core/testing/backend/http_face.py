"""The fake backend's face for other processes: one line of JSON asks over loopback TCP, one line answers.

{"operation": "start", "spec": {}, "key": "..."}      ->  {"job": {"id": "job-1", "state": "running", ...}}
{"operation": "status", "job_id": "job-1"}            ->  {"job": {...}}
{"operation": "cancel", "job_id": "job-7"}            ->  {"error": {"status": 404, "message": "..."}}
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from connector_core.testing.backend.backend_jobs import FakeBackendError, Job

Operations = Mapping[str, Callable[..., Awaitable[Job]]]


@contextlib.asynccontextmanager
async def listen(operations: Operations) -> AsyncIterator[str]:
    """Serve operations on a free port until the block ends; yields `host:port`."""
    conversations: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        conversations.add(conversation)
        try:
            await _converse(operations, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the caller has been killed, or the test is over
        finally:
            conversations.discard(conversation)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        if conversations:
            await asyncio.wait(set(conversations))


async def _converse(operations: Operations, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        answer = await _answer(operations, json.loads(line))
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()


async def _answer(operations: Operations, request: dict[str, Any]) -> dict[str, Any]:
    operation = request.pop("operation")
    try:
        return {"job": (await operations[operation](**request)).to_json()}
    except FakeBackendError as error:
        return {"error": {"status": error.status, "message": error.message}}
