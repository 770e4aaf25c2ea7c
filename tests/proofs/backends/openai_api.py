"""A server that speaks as much of OpenAI's API as batches and chats need, over HTTP, with jobs that move when looked at."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.proofs.backends.web import Log

KEY = "sk-of-tests-0123456789"
_BEGAN = 1_700_000_000
_NEXT = {"validating": "in_progress", "in_progress": "finalizing", "finalizing": "completed", "cancelling": "cancelled"}
_MAX_COMPLETION_TOKENS = 4096


@dataclass
class _State:
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)


class OpenAI:
    """Files, batches over them, and chat completions, for who has the key.

    A batch goes on by one state each time that it is retrieved. Its clock stands still, and its ids are counted, so that the
    same requests get the same answers after `reset`.
    """

    def __init__(self) -> None:
        self.log = Log()
        self._state = _State()
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/files/{id}", self._file),
                Route("/v1/files/{id}/content", self._content),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches/{id}", self._retrieve),
                Route("/v1/batches/{id}/cancel", self._cancel, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refusal},
        )

    def reset(self) -> None:
        """Forget all files and batches, and count from 1 again."""
        self._state = _State()
        self.log.take()

    def add_file(self, *lines: Mapping[str, Any]) -> str:
        """Hold a file of JSON lines, as if it had been uploaded; return its id."""
        return self._store("\n".join(json.dumps(line) for line in lines).encode())

    def file(self, file_id: str) -> list[Any]:
        """Return the lines of a file."""
        return [json.loads(line) for line in self._state.files[file_id].splitlines()]

    def status(self, batch_id: str) -> str:
        """Return a batch's state, without moving it."""
        status: str = self._state.batches[batch_id]["status"]
        return status

    def _store(self, data: bytes) -> str:
        file_id = f"file-{next(self._state.numbers)}"
        self._state.files[file_id] = data
        return file_id

    async def _read(self, request: Request) -> Any:
        body = await self.log.keep(request)
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise HTTPException(401, "Incorrect API key provided.")
        return body

    async def _chat(self, request: Request) -> Response:
        return JSONResponse(_complete(await self._read(request), next(self._state.numbers)))

    async def _file(self, request: Request) -> Response:
        await self._read(request)
        data = _found(self._state.files, request, "file")
        size = {"bytes": len(data), "filename": "lines.jsonl", "purpose": "batch"}
        return JSONResponse({"id": request.path_params["id"], "object": "file", "created_at": _BEGAN, **size})

    async def _content(self, request: Request) -> Response:
        await self._read(request)
        return PlainTextResponse(_found(self._state.files, request, "file").decode())

    async def _create(self, request: Request) -> Response:
        asked = await self._read(request)
        batch = {
            "id": f"batch_{next(self._state.numbers)}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "errors": None,
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "status": "validating",
            "created_at": _BEGAN,
            "expires_at": _BEGAN + 86_400,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": asked.get("metadata"),
        }
        self._state.batches[batch["id"]] = batch
        return JSONResponse(batch)

    async def _retrieve(self, request: Request) -> Response:
        await self._read(request)
        batch = _found(self._state.batches, request, "batch")
        answer = JSONResponse(batch)
        self._move(batch)
        return answer

    async def _cancel(self, request: Request) -> Response:
        await self._read(request)
        batch = _found(self._state.batches, request, "batch")
        if batch["status"] in ("completed", "failed", "cancelled"):
            raise HTTPException(409, f"Cannot cancel a batch with status '{batch['status']}'.")
        batch.update(status="cancelling", cancelling_at=_BEGAN + 1)
        return JSONResponse(batch)

    def _move(self, batch: dict[str, Any]) -> None:
        if batch["status"] == "validating" and (error := self._invalid(batch)):
            batch.update(status="failed", failed_at=_BEGAN + 1, errors={"object": "list", "data": [error]})
        elif (state := _NEXT.get(batch["status"])) is not None:
            batch.update(status=state, **{f"{state}_at": _BEGAN + 1})
        if batch["status"] == "completed" and "output_file_id" not in batch:
            self._work(batch)

    def _invalid(self, batch: Mapping[str, Any]) -> dict[str, Any] | None:
        if batch["input_file_id"] in self._state.files:
            return None
        message = f"The input file {batch['input_file_id']} cannot be found."
        return {"code": "invalid_input_file", "message": message, "line": None, "param": "input_file_id"}

    def _work(self, batch: dict[str, Any]) -> None:
        lines = self.file(batch["input_file_id"])
        done = [
            {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": _complete(line["body"], number)}}
            for number, line in enumerate(lines, 1)
        ]
        batch["output_file_id"] = self.add_file(*done)
        batch["request_counts"] = {"total": len(lines), "completed": len(lines), "failed": 0}


def _complete(asked: Mapping[str, Any], number: int) -> dict[str, Any]:
    if asked.get("max_tokens", 0) > _MAX_COMPLETION_TOKENS:
        raise HTTPException(400, "max_tokens is too large for this model.")
    said = asked["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"{asked['model']} was told: {said}"}
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": _BEGAN,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": len(said), "completion_tokens": 1, "total_tokens": len(said) + 1},
    }


def _found(where: Mapping[str, Any], request: Request, what: str) -> Any:
    wanted = request.path_params["id"]
    if wanted not in where:
        raise HTTPException(404, f"No {what} found with id '{wanted}'.")
    return where[wanted]


def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {"message": error.detail, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": told}, error.status_code)
