"""The folder of all jobs of a host: it starts each job once, finds it again, and forgets it when it is old."""

import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from connector_core import BackendUnavailableError, JobNotFoundError, PermanentError, RateLimitedError
from connector_core.errors import InvalidResourceMetaError
from connector_plugin_process import files, wrapper
from connector_plugin_process.command import Command
from connector_plugin_process.config import SECTION, ProcessConfig
from connector_plugin_process.job import Job, mark_of, this_host_name

log = logging.getLogger(__name__)

_STORE_ID = re.compile(r"[0-9a-f]{16}")
_JOB_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_CLAIM, _WORK = "claim", "work"
_LAUNCH_SECONDS = 10.0
_SWEEP_EVERY_SECONDS = 60.0


class JobStore:
    """The jobs of one host.

    Who owns a job is said by `owner`: the machine's name, for people, and the name of this store, made up when its folder
    was made. The folder, not the machine, is what has to be the same for a job to be found again: a container that is
    restarted in its pod has another process table and maybe another name but still its volume, while two pods may share
    a machine's name and id and yet know nothing of each other's jobs.
    """

    def __init__(
        self, config: ProcessConfig, *, host_name: str | None = None, kernel: wrapper.Kernel | None = None
    ) -> None:
        self._config = config
        self._root = config.state / f"connector-plugin-process-{os.geteuid()}"
        self._jobs = self._root / "jobs"
        self._host_name = host_name or this_host_name()
        self._given_kernel = kernel
        self._swept_at = float("-inf")
        self._emptying = threading.Lock()
        self._over: set[str] = set()

    @cached_property
    def owner(self) -> str:
        """The owner of this store's jobs, `<host name>/<store id>`; makes the folder if it is not there yet.

        Raises:
            BackendUnavailableError: the folder cannot be used, and why.
        """
        try:
            self._prepare()
            with self._lock():
                return f"{self._host_name}/{self._store_id()}"
        except OSError as error:
            raise BackendUnavailableError(
                f"the folder for the jobs' state cannot be used: {error}; choose another by `state` in {SECTION}"
            ) from error

    def _prepare(self) -> None:
        """Make the folder; refuse one that others could change, since they could then have any process stopped."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{self._root} is not a folder of user {os.geteuid()}'s own")
        self._root.chmod(0o700)
        self._jobs.mkdir(mode=0o700, exist_ok=True)

    def _store_id(self) -> str:
        name = self._root / "id"
        known = (files.read_bytes(name) or b"").decode(errors="replace")
        if _STORE_ID.fullmatch(known):
            return known
        if files.exists(name):
            log.error("state folder's id is damaged; jobs that began before are lost: %s", name)
            files.remove(name)
        fresh = self._root / "id.new"
        files.remove(fresh)
        made = uuid.uuid4().hex[:16]
        fresh.write_text(made)
        fresh.replace(name)
        return made

    @cached_property
    def _kernel(self) -> wrapper.Kernel:
        return self._given_kernel or wrapper.this_kernel()

    def create(self, key: str | None, command: Command) -> Job:
        """Start a job, or return the one that was started for this key before.

        Raises:
            RateLimitedError: as many jobs as allowed are running.
            BackendUnavailableError: the job could not be started.
        """
        folder = self._folder_for(key)
        while True:
            claim = self._open_claim(folder)
            try:
                _wait_for(claim, folder.name)
                if _is_at(claim, folder / _CLAIM):  # else it was swept away, or failed to start, while we waited
                    return self._begun(folder) or self._launch(folder, command, claim)
            finally:
                # Only closed, never unlocked: a wrapper that has not recorded its start yet holds the lock as well.
                os.close(claim)

    def _begun(self, folder: Path) -> Job | None:
        job = self._read(folder)
        if job is None and files.is_folder(folder / _WORK):  # its command has removed the record
            job = Job.under_wrapper(folder, self._kernel, self.owner)
        if job is not None and job.is_damaged and not job.is_running():
            raise PermanentError(
                f"job {folder.name} is lost: {job.why_lost()}; only another attempt can start anew", error_code="Lost"
            )
        return job

    def _read(self, folder: Path) -> Job | None:
        return Job.read(folder, self._kernel, self.owner)

    def find(self, job_id: str, owner: str, pid: int, start_time: int) -> Job:
        """Find a job again, by its name, its owner and its wrapper's process number and start time.

        Raises:
            BackendUnavailableError: another host owns it; naming that.
            JobNotFoundError: there is no such job here any more.
            InvalidResourceMetaError: the name is none that a job can have.
        """
        if not _JOB_ID.fullmatch(job_id):
            raise InvalidResourceMetaError(f"{job_id!r} is not the name of a job", field="job_id")
        if owner.rpartition("/")[2] != self.owner.rpartition("/")[2]:
            raise self._belongs_to(owner, job_id)
        folder = self._jobs / job_id
        job = self._read(folder)
        if job is None or not job.is_of(pid, start_time):
            # Forgotten, or started anew; or else its command has removed the record, or written one of its own.
            alive = Job.under_wrapper(folder, self._kernel, owner, pid)
            if alive is None or not alive.is_of(pid, start_time):
                raise self._not_found(job_id, job)
            job = alive
        if owner != job.started.owner or self._is_elsewhere(job):
            raise self._belongs_to(owner, job_id)
        return job

    def _not_found(self, job_id: str, another: Job | None) -> JobNotFoundError:
        if another is not None:
            return JobNotFoundError(f"job {job_id} was forgotten, and started anew since")
        kept = self._config.keep_finished_seconds
        return JobNotFoundError(f"host {self.owner} has no job {job_id} (finished jobs are kept for {kept:g} seconds)")

    def _belongs_to(self, owner: str, job_id: str) -> BackendUnavailableError:
        return BackendUnavailableError(
            f"job {job_id} belongs to host {owner!r}, and this is {self.owner!r}: only its own host can tell about it or "
            "stop it, so its calls have to reach that one"
        )

    def _is_elsewhere(self, job: Job) -> bool:
        """Return whether another machine or container that shares this store's folder runs the job."""
        return job.started.owner != self.owner and job.started.kernel != self._kernel

    def sweep(self) -> None:
        """Remove what is left of jobs that finished long ago; a running one stays, however old it is.

        Raises:
            BackendUnavailableError: the store's folder cannot be used, and why.
        """
        _ = self.owner  # makes the folder
        self._swept_at = time.monotonic()
        with self._lock():
            for folder in self._folders():
                try:
                    self._sweep_one(folder)
                except OSError as error:  # one job's folder, of which its command has made something else
                    log.warning("job folder cannot be swept: %s: %s", folder, error)
        self._empty_trash()

    def _sweep_one(self, folder: Path) -> None:
        job = self._read(folder)
        if not files.is_folder(folder):
            self._put_away(folder)
        elif job is None:
            if Job.under_wrapper(folder, self._kernel, self.owner) is None:
                self._put_away_abandoned(folder)
        elif self._is_forgettable(job):
            self._put_away(folder)

    def _is_forgettable(self, job: Job) -> bool:
        if job.process() is not None or (job.ended() is None and self._is_elsewhere(job)):
            return False
        return time.time() - job.last_change() > self._config.keep_finished_seconds

    def _put_away_abandoned(self, folder: Path) -> None:
        """Remove a name that was claimed by a host which died before it started the job."""
        claim = _open_own(folder / _CLAIM)
        try:
            if _try_to_lock(claim):  # else somebody is about to start it
                self._put_away(folder)
        finally:
            os.close(claim)

    def _put_away(self, folder: Path) -> None:
        folder.rename(self._jobs / f".{folder.name}-{uuid.uuid4().hex}")  # at once, while emptying it may take long

    def _empty_trash(self) -> None:
        """Begin to remove what was put away, in the background: no call should wait for a job's large working directory."""
        threading.Thread(target=self._remove_trash, name="process: old jobs", daemon=True).start()

    def _remove_trash(self) -> None:
        with self._emptying:
            for trash in list(self._jobs.glob(".*")):
                files.remove(trash)

    def _folders(self) -> list[Path]:
        return [folder for folder in self._jobs.iterdir() if _JOB_ID.fullmatch(folder.name)]

    def _folder_for(self, key: str | None) -> Path:
        _ = self.owner  # makes the folder
        if not key:
            return self._jobs / uuid.uuid4().hex
        return self._jobs / (key if _JOB_ID.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()[:32])

    def _open_claim(self, folder: Path) -> int:
        if time.monotonic() - self._swept_at > _SWEEP_EVERY_SECONDS:
            self.sweep()
        with self._lock():
            if not folder.exists():
                self._check_capacity()
                folder.mkdir(mode=0o700)
                self._over.discard(folder.name)
            return _open_own(folder / _CLAIM)

    def _check_capacity(self) -> None:
        folders = self._folders()
        # Jobs that are over stay so, and there may be thousands: they are looked at once.
        self._over.intersection_update(folder.name for folder in folders)
        active = sum(self._is_active(folder) for folder in folders)
        if active >= self._config.max_jobs:
            raise RateLimitedError(
                f"{active} jobs are running on host {self.owner}, as many as `max_jobs` in {SECTION} allows; try again later"
            )

    def _is_active(self, folder: Path) -> bool:
        if folder.name in self._over:
            return False
        job = self._read(folder)
        if job is None:  # about to be started
            return files.is_folder(folder)
        if job.is_running():
            return True
        self._over.add(folder.name)
        return False

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the whole store, for a moment: among threads and among processes."""
        handle = _open_own(self._root / "lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _launch(self, folder: Path, command: Command, claim: int) -> Job:
        work = folder / _WORK
        work.mkdir(mode=0o700, exist_ok=True)
        spec = {
            "owner": self.owner,
            "executable": command.argv[0],
            "argv": command.argv,
            "env": {**command.env, "HOME": str(work), wrapper.MARKER: mark_of(self.owner, folder.name)},
            "cwd": str(command.cwd or work),
            "grace_seconds": self._config.grace_seconds,
            "max_log_bytes": self._config.max_log_bytes,
            "max_job_bytes": self._config.max_job_bytes,
        }
        # The specification goes through a pipe, so that a secret in the environment never lies on the disk.
        complaint = _start_wrapper(folder, json.dumps(spec).encode(), claim)
        job = self._read(folder)
        if job is None:
            with self._lock():
                self._put_away(folder)
            self._empty_trash()
            raise BackendUnavailableError(
                f"the wrapper of job {folder.name} did not start: {complaint or 'it said nothing'}"
            )
        log.info("started job %s: %s, wrapper %d", job.job_id, command.argv[0], job.started.pid)
        return job


def _start_wrapper(folder: Path, spec: bytes, claim: int) -> str:
    # -I and -S: nothing of the caller's or the host's making is imported, and it starts in a blink.
    program = [sys.executable, "-I", "-S", "-X", "utf8", wrapper.__file__, str(claim)]
    # An interpreter that needs this to find its own library is the only reason to pass anything on.
    env = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=(claim,), start_new_session=True
    ) as process:
        try:
            complaint = process.communicate(spec, timeout=_LAUNCH_SECONDS)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            raise BackendUnavailableError(
                f"the wrapper of job {folder.name} has not started in time; try again"
            ) from None
    return complaint.decode(errors="replace").strip()


def _wait_for(claim: int, job_id: str) -> None:
    """Wait until nobody else is about to start this job."""
    deadline = time.monotonic() + _LAUNCH_SECONDS
    while not _try_to_lock(claim):
        if time.monotonic() > deadline:
            raise BackendUnavailableError(f"job {job_id} is being started by another call for too long; try again")
        time.sleep(0.02)


def _open_own(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _try_to_lock(claim: int) -> bool:
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
