"""Calls by grpc-go, in a version that engines have: another HTTP/2 than that of gRPC's core, which all else here calls with."""

import asyncio
import base64
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flyteidl.service import agent_pb2
from google.protobuf.message import Message

from tests.support.environments import clean_environment

_MODULE = Path(__file__).parent / "caller"
_LONGEST_LINE = 2**26
_METHODS = {method.name: method for one in agent_pb2.DESCRIPTOR.services_by_name.values() for method in one.methods}


@dataclass(frozen=True)
class Outcome:
    """What became of a call, or of many.

    Attributes:
        code: the status code's name as Go has it, such as `DeadlineExceeded`; of many calls, that of the last.
        message: the status' text.
        answers: as they came.
        trailers: behind the answers.
        counts: of many calls, how many ended with which code and size of the answer, such as `OK 12`.
    """

    code: str
    message: str
    answers: list[bytes] = field(default_factory=list)
    trailers: Mapping[str, list[str]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass
class GoCaller:
    """The program, running."""

    process: asyncio.subprocess.Process
    _waiting: dict[int, asyncio.Future[Outcome]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def begin(self, method: str, *requests: Message | bytes, **how: Any) -> asyncio.Future[Outcome]:
        """Begin a call; how it is to be made is in the program's `Order`. `cancel` takes what is returned."""
        descriptor = _METHODS[method]
        number = next(self._numbers)
        self._order(
            id=number,
            method=f"/{descriptor.containing_service.full_name}/{method}",
            unary=not (descriptor.client_streaming or descriptor.server_streaming),
            requests=[base64.b64encode(_raw(one)).decode() for one in requests],
            **how,
        )
        outcome = self._waiting[number] = asyncio.get_running_loop().create_future()
        return outcome

    def cancel(self, outcome: asyncio.Future[Outcome]) -> None:
        """Cancel a call, whose outcome will say so."""
        (number,) = (number for number, one in self._waiting.items() if one is outcome)
        self._order(id=number, cancel=True)

    def send_to(self, *addresses: str) -> None:
        """Tell it of other hosts, as DNS would; what comes next is behind that."""
        self._order(hosts=addresses)

    async def call(self, method: str, *requests: Message | bytes, **how: Any) -> Outcome:
        """Make a call, as `begin` does."""
        return await self.begin(method, *requests, **how)

    async def read(self) -> None:
        """Bring outcomes to those who wait, until the program ends."""
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                told = json.loads(line)
                answers = [base64.b64decode(one) for one in told["answers"] or ()]
                rest = {name: told[name] or {} for name in ("trailers", "counts")}
                outcome = Outcome(told["code"], told["message"], answers, **rest)
                self._waiting.pop(told["id"]).set_result(outcome)
        finally:
            for one in self._waiting.values():
                one.set_exception(AssertionError("the client has ended, and this call not"))

    def _order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")


@asynccontextmanager
async def go_caller(*addresses: str, ping: str = "0s") -> AsyncIterator[GoCaller]:
    """Run the program against hosts until the block ends.

    Args:
        addresses: of the hosts, which it takes turns with.
        ping: how often to ping while calls are under way, as Go writes durations.
    """
    program = await asyncio.to_thread(_built)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, "-ping", ping, *addresses, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE
    )
    caller = GoCaller(process)
    reading = asyncio.create_task(caller.read())
    try:
        yield caller
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading


def _built() -> Path:
    """Build the program, unless it has been."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, which builds the client that engines have")
    folder = Path(tempfile.gettempdir()) / f"connector-host-caller-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    sources = b"".join((_MODULE / name).read_bytes() for name in ("go.mod", "main.go"))
    program = folder / f"caller-{hashlib.sha256(sources).hexdigest()[:16]}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            command = [go, "build", "-buildvcs=false", "-o", str(program), "."]
            made = subprocess.run(
                command, cwd=_MODULE, env=clean_environment(), capture_output=True, text=True, check=False
            )
            if made.returncode:
                pytest.skip(f"the client that engines have cannot be built: {made.stderr.strip()[-300:]}")
    return program


def _raw(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
