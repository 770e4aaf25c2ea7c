"""Children that serve beside this process: started with descriptors of its own, ended with patience, and never left behind."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

Step = tuple[signal.Signals, float | None]
"""A signal, and for how many seconds the child may take to end after it; `None` waits as long as that takes."""


class Child:
    """A running program in a process group of its own, so that a Ctrl-C at the terminal does not reach it.

    Attributes:
        pid: its process' number.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended = asyncio.create_task(process.wait())
        self.pid = process.pid

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], inherited: Iterable[int] = ()
    ) -> Self:
        """Start a program with this process' standard output and error, and without an input.

        Args:
            command: the program and its arguments.
            environment: variables that are added to this process' own.
            inherited: descriptors that it gets, under the same numbers.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            env={**os.environ, **environment},
            pass_fds=tuple(inherited),
            process_group=0,
        )
        return cls(process)

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return not self._ended.done()

    async def wait(self) -> int:
        """Wait until it has ended and return its exit code, as shells have it; may be called again."""
        return exit_code(await asyncio.shield(self._ended))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, *steps: Step) -> int:
        """Send one signal after the other until it has ended, and return its exit code."""
        for number, seconds in steps:
            self.signal(number)
            if (await asyncio.wait([self._ended], timeout=seconds))[0]:
                break
        return await self.wait()


class Lifeline:
    """A pipe that children inherit one end of: it is closed when this process has ended, however it has.

    Attributes:
        inherited: the descriptor for children, which call `on_end_of_parent` with it.
    """

    def __init__(self) -> None:
        self.inherited, self._kept = os.pipe()

    def close(self) -> None:
        """Close both ends, which notifies children that still run."""
        os.close(self._kept)
        os.close(self.inherited)


def on_end_of_parent(lifeline: int, act: Callable[[], None]) -> None:
    """Call `act` on the running loop when the parent whose `Lifeline` this process has inherited has ended."""
    loop = asyncio.get_running_loop()

    def parent_has_ended() -> None:
        loop.remove_reader(lifeline)
        act()

    loop.add_reader(lifeline, parent_has_ended)


def without_inheritance(descriptors: Iterable[int]) -> None:
    """Keep inherited descriptors from the children that this process itself starts."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def exit_code(code: int) -> int:
    """Return what shells have for how a process ended: its exit code, or 128 and the signal's number."""
    return code if code >= 0 else 128 - code


def told_end(code: int) -> str:
    """Return how a process ended, in words: its exit code, or the signal."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
