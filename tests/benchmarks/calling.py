"""The requests of each protocol, as bytes, and the check of a server's answers by its protocol's typed client."""

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.benchmarks.servers import TARGETS, Running
from tests.benchmarks.wire_load import PLACEHOLDER, Call
from tests.support.environments import run

JOBS = 1000
_CLIENT = TARGETS / "typed_client.py"


def requests(python: Path, protocol: int) -> dict[str, Call]:
    """Return the calls of a protocol by name, the sizes of whose answers are not known yet."""
    return dict(_requests(python, protocol))


@cache
def _requests(python: Path, protocol: int) -> tuple[tuple[str, Call], ...]:
    written = json.loads(run(python, _CLIENT, str(protocol), "write").stdout)
    return tuple(
        (name, Call(made["path"], tuple(base64.b64decode(message) for message in made["messages"]), 0))
        for name, made in written.items()
    )


def checked(server: Running) -> dict[str, Call]:
    """Make each call once with the typed client, hold the answers to what they should be, and return the calls."""
    target = server.target
    sizes = json.loads(run(target.python, _CLIENT, str(target.protocol), "check", server.address).stdout)
    return {
        name: call.answered_by(sizes.get(name, 0)) for name, call in requests(target.python, target.protocol).items()
    }


@dataclass
class Numbers:
    """Numbers of tasks: a thousand jobs in turn for polls, each create another task."""

    next_create: Iterator[int]
    next_poll: Iterator[int]

    @classmethod
    def fresh(cls) -> "Numbers":
        """Return those for a server that has not been called yet."""
        return cls(itertools.count(10_000), itertools.cycle(range(JOBS)))

    def of(self, name: str) -> Iterator[int]:
        """Return those for a call."""
        return self.next_poll if name in ("get", "plain", "brief_blocking") else self.next_create


def numbered(call: Call, number: int) -> bytes:
    """Return the one message of a call about a task of its own, unframed."""
    (message,) = call.messages
    return message.replace(PLACEHOLDER, b"n%08d" % number)
