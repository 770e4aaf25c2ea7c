"""The program that runs one job's command, outlives the host and records how the command ended.

The host starts it by path with `python -I -S`, so it needs nothing but the standard library. It becomes the leader of a
session of its own, keeps every process of the job below it, copies what they write, stops them all when it is told to
(TERM), and leaves only when none of them is left. While it lives the command's number cannot be given to another
process, because only the wrapper could reap it: so signals to the job never reach a stranger.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

MARKER = "CONNECTOR_PROCESS_JOB"
STARTED, ENDED, STDOUT, STDERR, DIAGNOSIS = "started.json", "ended.json", "stdout", "stderr", "wrapper.log"
EXITED, STOPPED, NOT_STARTED = "exited", "stopped", "not started"
TOO_MUCH_OUTPUT, TOO_MUCH_DISK, OUTPUT_LOST = "too much output", "too much disk", "output lost"

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_AWAITED = _STOP | {signal.SIGCHLD}
_CHECK_SECONDS = 1.0
_CHUNK_BYTES = 256 * 1024
# Going through a folder of many files takes time: a twentieth of the wrapper's at most.
_SHARE_OF_CHECKS = 20
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
        """True if it has ended and only waits to be reaped."""
        return self.state in "ZX"


class Kernel(NamedTuple):
    """The scope of process numbers: one boot of one machine, one process namespace (container)."""

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
    # The command can write here, too: a pipe of this name would block the wrapper, a link lead it elsewhere.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{name}.new")  # noqa: PTH108
    handle = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{name}.new", name)  # noqa: PTH105


class Outputs:
    """The command's stdout and stderr: pipes that are copied to files, up to a number of bytes in all.

    A command that wrote to the files itself would be found out only when they are looked at: within a second it writes
    a gigabyte. A pipe that nobody reads makes it wait.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._files: dict[int, int] = {}
        self._writing: list[int] = []
        self.exceeded = False
        self.error = ""
        for name in (STDOUT, STDERR):
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            self._files[reading] = _open(name)
            self._writing.append(writing)

    @property
    def for_the_command(self) -> list[int]:
        """The pipes' ends that the command writes to: stdout's, stderr's."""
        return self._writing

    def leave_to_the_command(self) -> None:
        """Close the ends that only the command needs, so that the pipes end with it."""
        for writing in self._writing:
            os.close(writing)

    @property
    def readable(self) -> list[int]:
        """The pipes to wait for; none any more when no more may be written."""
        return [] if self.exceeded or self.error else list(self._files)

    def copy(self, pipe: int) -> bool:
        """Copy what has come; say whether there may be more at once."""
        try:
            data = os.read(pipe, min(_CHUNK_BYTES, self._left + 1))
        except BlockingIOError:
            return False
        if not data:
            os.close(pipe)
            os.close(self._files.pop(pipe))
            return False
        self.exceeded = len(data) > self._left
        data = data[: self._left]
        self._left -= len(data)
        try:
            while data:
                data = data[os.write(self._files[pipe], data) :]
        except OSError as error:  # the disk is full
            self.error = str(error)
        return not self.exceeded and not self.error

    def drain(self) -> None:
        """Copy what is left in the pipes when nobody writes any more."""
        for pipe in self.readable:
            while self.copy(pipe):
                pass


class Disk:
    """The disk space of the job's folder, measured from time to time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_check = 0.0

    def is_exceeded(self) -> bool:
        """Return whether the folder takes more than it may; measures it only when that is due."""
        began = time.monotonic()
        if began < self._next_check:
            return False
        used = used_bytes(".")
        now = time.monotonic()
        self._next_check = now + _SHARE_OF_CHECKS * (now - began)
        return used > self._limit


def used_bytes(folder: str) -> int:
    """Add up what the files below a folder take on the disk; links are not followed."""
    total = 0
    linked: set[tuple[int, int]] = set()
    folders = [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # gone in between
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if (found.st_dev, found.st_ino) in linked:
                            continue
                        linked.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


class Wrapper:
    """One job's command and all processes that come from it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._me = os.getpid()
        self._leader = 0
        self._outputs = Outputs(spec["max_log_bytes"])
        self._disk = Disk(spec["max_job_bytes"])
        self._signals = -1

    def run(self) -> dict[str, Any]:
        """Run the command to its end and say how it ended."""
        error = self._start()
        if error:
            return {"reason": NOT_STARTED, "error": error}
        self._listen()
        reason = self._watch()
        # A command that is stopped for its disk would fill it during its grace.
        self._clear(0 if reason == TOO_MUCH_DISK else self._spec["grace_seconds"])
        self._outputs.drain()
        if reason == EXITED and (self._outputs.exceeded or self._outputs.error):
            reason = TOO_MUCH_OUTPUT if self._outputs.exceeded else OUTPUT_LOST
        code = os.waitstatus_to_exitcode(os.waitpid(self._leader, 0)[1])
        return {
            "reason": reason,
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "error": self._outputs.error,
        }

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
        self._outputs.leave_to_the_command()
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
        for target, source in enumerate((_open(os.devnull), *self._outputs.for_the_command)):
            os.dup2(source, target)
        os.chdir(self._spec["cwd"])
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError):  # the C library keeps some of the real-time ones to itself
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(self._spec["executable"], self._spec["argv"], self._spec["env"])  # noqa: S606

    def _listen(self) -> None:
        """Have signals come through a pipe, so that they and output can be waited for together."""
        self._signals, writing = os.pipe()
        for end in (self._signals, writing):
            os.set_blocking(end, False)
        for number in _AWAITED:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)  # what has come since the start comes now

    def _wait(self, seconds: float) -> set[int]:
        """Copy output until signals come, which are returned, or the time is over or no more may be written."""
        deadline = time.monotonic() + seconds
        while True:
            poll = select.poll()
            for handle in (self._signals, *self._outputs.readable):
                poll.register(handle, select.POLLIN)
            ready = [handle for handle, _ in poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))]
            for pipe in ready:
                if pipe != self._signals:
                    self._outputs.copy(pipe)
            if self._signals in ready:
                return set(os.read(self._signals, 4096))
            if time.monotonic() >= deadline or (ready and not self._outputs.readable):
                return set()

    def _watch(self) -> str:
        """Wait until the command ends, or has to."""
        while True:
            received = self._wait(_CHECK_SECONDS)
            if self._command_has_ended():
                return EXITED
            if received & _STOP:
                return STOPPED
            if self._outputs.exceeded:
                return TOO_MUCH_OUTPUT
            if self._outputs.error:
                return OUTPUT_LOST
            if self._disk.is_exceeded():
                return TOO_MUCH_DISK

    def _command_has_ended(self) -> bool:
        """Reap what was left to us; the command itself stays a zombie, which keeps its number taken."""
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid == self._leader:
                return True
            os.waitpid(ended.si_pid, 0)
        return False

    def _clear(self, grace_seconds: float) -> None:
        """Stop whatever is left of the job, first politely."""
        deadline = time.monotonic() + grace_seconds
        pause = 0.005
        number = signal.SIGTERM
        asked = False
        while members := self._members():
            if time.monotonic() >= deadline:
                number = signal.SIGKILL
            if not asked or number == signal.SIGKILL:
                self._signal(members, number)
                asked = True
            self._wait(pause)
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
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


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
