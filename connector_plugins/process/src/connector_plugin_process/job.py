"""One job's folder: what is recorded there about the job, and what follows from it.

The job's command runs as the same user and can write to the folder, so a record is believed only where it has the shape
of one, and a process is the job's wrapper only where the kernel says that it works in this folder.
"""

import os
import signal
from pathlib import Path
from typing import TypeVar

import msgspec

from connector_plugin_process import files, wrapper
from connector_plugin_process.wrapper import Kernel, Process

_STOP_ASKED = "stop-asked"


class Started(msgspec.Struct, frozen=True):
    """The wrapper's record of its beginning: itself, the owner of the job, and the Unix time."""

    pid: int
    start_time: int
    owner: str
    boot_id: str
    pid_namespace: str
    at: float

    @property
    def kernel(self) -> Kernel:
        """The boot and namespace in which the process numbers mean something."""
        return Kernel(self.boot_id, self.pid_namespace)


class Ended(msgspec.Struct, frozen=True):
    """The wrapper's record of when nothing was left of the job; `reason` is one of the wrapper's constants."""

    reason: str
    at: float
    exit_code: int | None = None
    signal: int | None = None
    error: str = ""


RecordT = TypeVar("RecordT", Started, Ended)


class Job:
    """A job that has begun on this host, now or some time ago."""

    def __init__(self, folder: Path, started: Started, kernel: Kernel, *, is_damaged: bool = False) -> None:
        self.folder = folder
        self.started = started
        self.is_damaged = is_damaged
        self._kernel = kernel

    @classmethod
    def read(cls, folder: Path, kernel: Kernel, owner: str = "") -> "Job | None":
        """Read a job's folder; None when there is no job in it (yet).

        Where something that is not a record stands in the record's place, the job is `is_damaged`: one of `owner`'s
        whose wrapper is the process that works in the folder, if there is one.
        """
        if not files.is_folder(folder) or not files.exists(folder / wrapper.STARTED):
            return None
        started = _read(folder / wrapper.STARTED, Started)
        if started is not None:
            return cls(folder, started, kernel)
        return cls.under_wrapper(folder, kernel, owner) or cls(
            folder, Started(0, 0, owner, *kernel, at=0), kernel, is_damaged=True
        )

    @classmethod
    def under_wrapper(cls, folder: Path, kernel: Kernel, owner: str, pid: int | None = None) -> "Job | None":
        """Return the job whose wrapper lives and works in this folder, whatever is recorded there."""
        candidates = wrapper.all_processes() if pid is None else filter(None, [wrapper.look_up(pid)])
        for process in candidates:
            if _is_wrapper_in(folder, process):
                started = Started(process.pid, process.start_time, owner, *kernel, at=0)
                return cls(folder, started, kernel, is_damaged=True)
        return None

    def is_of(self, pid: int, start_time: int) -> bool:
        """Return whether this is the job whose wrapper had this number and start time, as far as the folder can tell."""
        is_unknown = self.is_damaged and not self.started.pid
        return is_unknown or (self.started.pid, self.started.start_time) == (pid, start_time)

    @property
    def job_id(self) -> str:
        """The job's name, unique in its store."""
        return self.folder.name

    @property
    def stdout(self) -> Path:
        """The file of the command's standard output."""
        return self.folder / wrapper.STDOUT

    @property
    def stderr(self) -> Path:
        """The file of the command's standard error."""
        return self.folder / wrapper.STDERR

    def process(self) -> Process | None:
        """Return the job's wrapper while it lives; a number that was given to another process is not it."""
        if self.started.kernel != self._kernel:
            return None
        found = wrapper.look_up(self.started.pid)
        if found is None or found.start_time != self.started.start_time or not _is_wrapper_in(self.folder, found):
            return None
        return found

    def is_running(self) -> bool:
        """Return whether anything is left of the job, as far as its wrapper knows."""
        return self.process() is not None

    def ended(self) -> Ended | None:
        """Return how the job ended; None for ever if its wrapper was killed.

        Asked while the wrapper lives it means nothing: the wrapper writes it last, over whatever the command put there.
        """
        return _read(self.folder / wrapper.ENDED, Ended)

    def why_lost(self) -> str:
        """Say why a job that does not run has no end recorded."""
        if self.started.boot_id != self._kernel.boot_id:
            return "the machine was restarted while the job ran"
        if self.started.pid_namespace != self._kernel.pid_namespace:
            return "the container in which the job ran has ended"
        if self.is_damaged:
            return f"its record `{wrapper.STARTED}` was changed or damaged, and its wrapper is not there any more"
        diagnosis = self._diagnosis()
        if diagnosis:
            return f"its wrapper (process {self.started.pid}) failed: {diagnosis}"
        return f"its wrapper (process {self.started.pid}) was killed, by SIGKILL or for lack of memory, and the job with it"

    def _diagnosis(self) -> str:
        lines = (files.read_bytes(self.folder / wrapper.DIAGNOSIS) or b"").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def is_stop_asked(self) -> bool:
        """Return whether the job's deletion was requested while it ran."""
        return files.exists(self.folder / _STOP_ASKED)

    def ask_to_stop(self) -> None:
        """Have the wrapper stop every process of the job, which it does even if this host ends now."""
        files.create_mark(self.folder / _STOP_ASKED)
        process = self.process()
        if process is not None:
            wrapper.send_signal(process, signal.SIGTERM)
            self.resume_wrapper()

    def resume_wrapper(self) -> None:
        """Wake a wrapper that somebody stopped (SIGSTOP): it could not hear anything else."""
        process = self.process()
        if process is not None:
            wrapper.send_signal(process, signal.SIGCONT)

    def kill_stopped_wrapper(self) -> bool:
        """Kill a wrapper that is kept stopped, and the command with it; say whether there was one."""
        process = self.process()
        return process is not None and process.state in "Tt" and wrapper.send_signal(process, signal.SIGKILL)

    def kill_orphans(self) -> int:
        """Kill the processes that a killed wrapper left behind and return how many there were.

        They are known by the job's mark in their environment: numbers prove nothing without the wrapper, which kept them
        from being given to others. A wrapper that ended by itself has left nothing.
        """
        if self.started.kernel != self._kernel or self.process() is not None or self.ended() is not None:
            return 0
        mark = f"{wrapper.MARKER}={mark_of(self.started.owner, self.job_id)}".encode()
        orphans = [one for one in wrapper.all_processes() if not one.is_zombie and mark in _environment(one.pid)]
        return sum(wrapper.send_signal(orphan, signal.SIGKILL) for orphan in orphans)

    def last_change(self) -> float:
        """Return the Unix time at which something last happened to the job."""
        names = (wrapper.STARTED, wrapper.ENDED, wrapper.STDOUT, wrapper.STDERR)
        return max((self.folder / name).lstat().st_mtime for name in names if files.exists(self.folder / name))


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def _is_wrapper_in(folder: Path, process: Process) -> bool:
    """Return whether a process leads a session and works in the job's folder, as wrappers do and commands do not."""
    if process.is_zombie or process.session != process.pid:
        return False
    try:
        return Path(f"/proc/{process.pid}/cwd").samefile(folder)
    except PermissionError:  # an interpreter with capabilities of its own hides this even from its own user
        return _user_of(process.pid) == os.getuid()
    except OSError:  # gone
        return False


def _user_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:")), None)


def _read(file: Path, record_type: type[RecordT]) -> RecordT | None:
    """Read a record, leaving out what a newer writer added; None for anything else, as after a loss of power."""
    try:
        return msgspec.json.decode(files.read_bytes(file) or b"", type=record_type)
    except msgspec.MsgspecError:
        return None


def mark_of(owner: str, job_id: str) -> str:
    """Return what a job's processes carry in their environment; two hosts on one machine may have jobs of one name."""
    return f"{owner}/{job_id}"


def this_host_name() -> str:
    """Return the name of this machine or container."""
    return os.uname().nodename
