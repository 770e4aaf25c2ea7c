"""The program that runs one job's command, outlives the host and records how the command ended.

The host starts it by path with `python -I -S`, so it needs nothing but the standard library. It becomes the leader of a
session of its own, keeps every process of the job below it, stops them all when it is told to (TERM), and leaves only
when none of them is left. While it lives the command's number cannot be given to another process, because only the
wrapper could reap it: so signals to the job never reach a stranger.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

MARKER = "CONNECTOR_PROCESS_JOB"
STARTED, ENDED, STDOUT, STDERR, DIAGNOSIS = "started.json", "ended.json", "stdout", "stderr", "wrapper.log"
EXITED, STOPPED, TOO_MUCH_OUTPUT, NOT_STARTED = "exited", "stopped", "too much output", "not started"

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_AWAITED = _STOP | {signal.SIGCHLD}
_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Process(NamedTuple):
    """A line of the process table; number and start time (in clock ticks since boot) together name one process."""

    pid: int
    start_time: int
    state: str
    parent: int
    group: int
    session: int

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and only waits to be reaped."""
        return self.state in "ZX"


class Kernel(NamedTuple):
    """Where process numbers mean something: one boot of one machine, one process namespace (container)."""

    boot_id: str
    pid_namespace: str


def this_kernel() -> Kernel:
    """Say where this process runs."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - pathlib doubles the start time
        return Kernel(file.read().strip(), os.readlink("/proc/self/ns/pid"))  # noqa: PTH115


def look_up(pid: int) -> Process | None:
    """Return the process with this number, if there is one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may itself hold spaces and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[19]), fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]))


def all_processes() -> Iterator[Process]:
    """Go through the process table."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (found := look_up(int(name))) is not None:
            yield found


def send_signal(process: Process, number: int) -> bool:
    """Signal this process and no other that may have its number by now; say whether it was there."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        now = look_up(process.pid)
        if now is None or now.start_time != process.start_time:
            return False
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):  # gone in between; or a program with more rights than ours
        return False
    finally:
        os.close(handle)
    return True


def write_record(name: str, record: dict[str, Any]) -> None:
    """Write a file that is there as a whole or not at all."""
    with open(f"{name}.new", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{name}.new", name)  # noqa: PTH105


class Wrapper:
    """One job's command and all processes that come from it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._me = os.getpid()
        self._leader = 0
        self._outputs = [_open(STDOUT), _open(STDERR)]

    def run(self) -> dict[str, Any]:
        """Run the command to its end and say how it ended."""
        error = self._start()
        if error:
            return {"reason": NOT_STARTED, "error": error}
        reason = self._watch()
        self._clear()
        code = os.waitstatus_to_exitcode(os.waitpid(self._leader, 0)[1])
        return {"reason": reason, "exit_code": code if code >= 0 else None, "signal": -code if code < 0 else None}

    def _start(self) -> str:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that a process that detaches itself stays below us
        reading, writing = os.pipe()
        self._leader = os.fork()
        if self._leader == 0:
            try:
                self._become_command()
            except BaseException as error:  # noqa: BLE001 - the parent is told, whatever it was
                os.write(writing, str(error).encode(errors="replace"))
            finally:
                os._exit(127)
        os.close(writing)
        with open(reading, "rb") as pipe:  # noqa: PTH123 - ends empty when the command has begun
            complaint = pipe.read().decode()
        if complaint:
            os.waitpid(self._leader, 0)
        return complaint

    def _become_command(self) -> NoReturn:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without the wrapper nobody would learn how the command ends
        if os.getppid() != self._me:
            os._exit(127)
        for target, source in enumerate((_open(os.devnull), *self._outputs)):
            os.dup2(source, target)
        os.chdir(self._spec["cwd"])
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError):  # the C library keeps some of the real-time ones to itself
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(self._spec["executable"], self._spec["argv"], self._spec["env"])  # noqa: S606

    def _watch(self) -> str:
        """Wait until the command ends, or has to."""
        while True:
            received = signal.sigtimedwait(_AWAITED, _CHECK_SECONDS)
            if self._command_has_ended():
                return EXITED
            if received is not None and received.si_signo != signal.SIGCHLD:
                return STOPPED
            if sum(os.fstat(one).st_size for one in self._outputs) > self._spec["max_log_bytes"]:
                return TOO_MUCH_OUTPUT

    def _command_has_ended(self) -> bool:
        """Reap what was left to us; the command itself stays a zombie, which keeps its number taken."""
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid == self._leader:
                return True
            os.waitpid(ended.si_pid, 0)
        return False

    def _clear(self) -> None:
        """Stop whatever is left of the job, first politely."""
        deadline = time.monotonic() + self._spec["grace_seconds"]
        pause = 0.005
        number = signal.SIGTERM
        asked = False
        while members := self._members():
            if time.monotonic() >= deadline:
                number = signal.SIGKILL
            if not asked or number == signal.SIGKILL:
                self._signal(members, number)
                asked = True
            signal.sigtimedwait({signal.SIGCHLD}, pause)
            pause = min(2 * pause, 0.2)

    def _signal(self, members: list[Process], number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, number)  # at once, so that no member can fork past it
            os.killpg(self._leader, signal.SIGCONT)  # one that is stopped could not hear it
        for member in members:
            if member.group != self._leader:
                send_signal(member, number)

    def _members(self) -> list[Process]:
        """Return the job's living processes: those of our session, and all below us."""
        table = list(all_processes())
        ours = {self._me}
        before = 0
        while before != len(ours):
            before = len(ours)
            ours.update(one.pid for one in table if one.session == self._me or one.parent in ours)
        return [one for one in table if one.pid in ours and one.pid != self._me and not one.is_zombie]


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def _prctl(option: int, value: int) -> None:
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0)))
    except (ImportError, OSError):  # a Python without it: then a process that leaves its session also leaves the job
        return


def main() -> None:
    """Read the job from stdin, detach from the host, run it in the folder that is the working directory."""
    claim = int(sys.argv[1])
    spec = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # so that not the host but init is our parent, and no zombie is left to the host
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host that ignores it would make us lose exit codes
    signal.pthread_sigmask(signal.SIG_SETMASK, _AWAITED)
    me = look_up(os.getpid())
    assert me is not None  # noqa: S101
    here = this_kernel()._asdict()
    write_record(
        STARTED, {"pid": me.pid, "start_time": me.start_time, "owner": spec["owner"], "at": time.time(), **here}
    )
    # From here on the job exists: the host, which waits for the end of our stdout, may answer, and others may ask.
    os.close(claim)
    for target, source in enumerate((os.devnull, os.devnull, DIAGNOSIS)):
        os.dup2(_open(source), target)
    write_record(ENDED, {**Wrapper(spec).run(), "at": time.time()})


if __name__ == "__main__":
    main()
