"""One job's folder: what is recorded there about the job, and what follows from it."""

import json
import os
import signal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from connector_plugin_process import wrapper
from connector_plugin_process.wrapper import Kernel, Process

_STOP_ASKED = "stop-asked"


class Started(msgspec.Struct, frozen=True):
    """What the wrapper recorded when it began: itself, the owner of the job, and the Unix time."""

    pid: int
    start_time: int
    owner: str
    boot_id: str
    pid_namespace: str
    at: float

    @property
    def kernel(self) -> Kernel:
        """Where the process numbers mean something."""
        return Kernel(self.boot_id, self.pid_namespace)


class Ended(msgspec.Struct, frozen=True):
    """What the wrapper recorded when nothing was left of the job; `reason` is one of the wrapper's constants."""

    reason: str
    at: float
    exit_code: int | None = None
    signal: int | None = None
    error: str = ""


RecordT = TypeVar("RecordT", Started, Ended)


class Job:
    """A job that has begun on this host, now or some time ago."""

    def __init__(self, folder: Path, started: Started, kernel: Kernel) -> None:
        self.folder = folder
        self.started = started
        self._kernel = kernel

    @classmethod
    def read(cls, folder: Path, kernel: Kernel) -> "Job | None":
        """Read a job's folder; None when there is no job in it (yet)."""
        record = _read(folder / wrapper.STARTED)
        return None if record is None else cls(folder, _known(Started, record), kernel)

    @property
    def job_id(self) -> str:
        """The job's name, unique in its store."""
        return self.folder.name

    @property
    def stdout(self) -> Path:
        """What the command wrote to its standard output."""
        return self.folder / wrapper.STDOUT

    @property
    def stderr(self) -> Path:
        """What the command wrote to its standard error."""
        return self.folder / wrapper.STDERR

    def process(self) -> Process | None:
        """Return the job's wrapper while it lives; a number that was given to another process is not it."""
        if self.started.kernel != self._kernel:
            return None
        found = wrapper.look_up(self.started.pid)
        if found is None or found.start_time != self.started.start_time or found.is_zombie:
            return None
        return found

    def is_running(self) -> bool:
        """Whether anything is left of the job, as far as its wrapper knows."""
        return self.ended() is None and self.process() is not None

    def ended(self) -> Ended | None:
        """Return how the job ended; None while it runs, and for ever if its wrapper was killed."""
        record = _read(self.folder / wrapper.ENDED)
        return None if record is None else _known(Ended, record)

    def why_lost(self) -> str:
        """Say why a job that does not run has no end recorded."""
        if self.started.boot_id != self._kernel.boot_id:
            return "the machine was restarted while the job ran"
        if self.started.pid_namespace != self._kernel.pid_namespace:
            return "the container in which the job ran has ended"
        diagnosis = self._diagnosis()
        if diagnosis:
            return f"its wrapper (process {self.started.pid}) failed: {diagnosis}"
        return f"its wrapper (process {self.started.pid}) was killed, by SIGKILL or for lack of memory, and the job with it"

    def _diagnosis(self) -> str:
        try:
            lines = (self.folder / wrapper.DIAGNOSIS).read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""

    def is_stop_asked(self) -> bool:
        """Whether somebody wanted the job gone while it ran."""
        return (self.folder / _STOP_ASKED).exists()

    def ask_to_stop(self) -> None:
        """Have the wrapper stop every process of the job, which it does even if this host ends now."""
        (self.folder / _STOP_ASKED).touch()
        process = self.process()
        if process is not None:
            wrapper.send_signal(process, signal.SIGTERM)

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
        files = (wrapper.STARTED, wrapper.ENDED, wrapper.STDOUT, wrapper.STDERR)
        return max((self.folder / name).stat().st_mtime for name in files if (self.folder / name).exists())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # the machine lost power before the file reached the disk
        return None
    return record if isinstance(record, dict) else None


def _known(record_type: type[RecordT], record: dict[str, Any]) -> RecordT:
    """Leave out what a newer writer added."""
    return record_type(**{name: value for name, value in record.items() if name in record_type.__annotations__})


def mark_of(owner: str, job_id: str) -> str:
    """Return what a job's processes carry in their environment; two hosts on one machine may have jobs of one name."""
    return f"{owner}/{job_id}"


def this_host_name() -> str:
    """Return the name of this machine or container."""
    return os.uname().nodename
