"""What the tests of the process plugin share: a bench that starts real commands and leaves none behind."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import ParseDict

from connector_core import Resource
from connector_plugin_process import wrapper
from connector_plugin_process.config import ProcessConfig, read_config
from connector_plugin_process.connector import ProcessConnector, ProcessMeta
from connector_plugin_process.job import Job, mark_of

PATIENCE = 30.0


class Bench:
    """Connectors over one state folder, and commands for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.connector = self.new_connector()

    def config(self, **settings: Any) -> ProcessConfig:
        """A section of the settings that allows a shell, unless told otherwise."""
        allow = ["/bin/sh", "/bin/echo", "/bin/cat", "/usr/bin/env", sys.executable]
        return read_config(
            {"allow": allow, "state": str(self.state), "allow_env": ["*"], "grace_seconds": 2, **settings}
        )

    def new_connector(self, **settings: Any) -> ProcessConnector:
        """A connector as a host that begins now would make it."""
        return ProcessConnector(self.config(**settings))

    def task(self, *argv: str, **custom: Any) -> TaskTemplate:
        """A task template with this command."""
        return ParseDict({"type": "process", "custom": {"argv": list(argv), **custom}}, TaskTemplate())

    def start(
        self, *argv: str, key: str | None = None, connector: ProcessConnector | None = None, **custom: Any
    ) -> ProcessMeta:
        """Start a command."""
        return (connector or self.connector).create(self.task(*argv, **custom), {}, "", key)

    def shell(self, script: str, **options: Any) -> ProcessMeta:
        """Start a shell script."""
        return self.start("sh", "-c", script, **options)

    def end(self, meta: ProcessMeta, connector: ProcessConnector | None = None) -> Resource:
        """Poll a job, as the engine does, until it is over."""
        asked = connector or self.connector
        self.until(lambda: asked.get(meta).phase.is_terminal)
        return asked.get(meta)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that sends no event."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, "it has not come to pass"
            time.sleep(0.01)

    def fifo(self, name: str) -> Path:
        """A pipe with a name, at which a command and a test can wait for each other."""
        path = self.folder / name
        os.mkfifo(path)
        return path

    def job(self, meta: ProcessMeta) -> Job:
        """The job's folder, as the store sees it."""
        (folder,) = self.folder.glob(f"**/jobs/{meta.job_id}")
        job = Job.read(folder, wrapper.this_kernel())
        assert job is not None
        return job

    def processes_of(self, meta: ProcessMeta) -> list[int]:
        """The living processes that carry the job's mark."""
        mark = f"{wrapper.MARKER}={mark_of(meta.host, meta.job_id)}".encode()
        return [one.pid for one in wrapper.all_processes() if not one.is_zombie and mark in environment(one.pid)]

    def clear(self) -> None:
        """End all jobs."""
        for record in self.folder.glob(f"**/jobs/*/{wrapper.STARTED}"):
            job = Job.read(record.parent, wrapper.this_kernel())
            if job is None:
                continue
            process = job.process()
            if process is not None:
                members = [one for one in wrapper.all_processes() if one.session == process.pid]
                for member in (process, *members):
                    wrapper.send_signal(member, signal.SIGKILL)
                self.until(lambda job=job: job.process() is None)  # type: ignore[misc]
            self.until(lambda job=job: job.kill_orphans() == 0)  # type: ignore[misc]


def environment(pid: int) -> list[bytes]:
    """The environment of a process."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of the test's own, cleared at its end."""
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def host_program() -> str:
    """A host as a program: starts a shell script as a job, prints its handle, then is killed like in a crash."""
    return HOST_PROGRAM


HOST_PROGRAM = """
import os, signal, sys
from flyteidl.core.tasks_pb2 import TaskTemplate
from connector_plugin_process.config import read_config
from connector_plugin_process.connector import ProcessConnector

state, script, key = sys.argv[1:]
template = TaskTemplate()
template.custom.update({"argv": ["sh", "-c", script]})
connector = ProcessConnector(read_config({"allow": ["/bin/sh"], "state": state}))
print(connector.create(template, {}, "", key).encode().decode(), flush=True)
os.killpg(0, signal.SIGKILL)
"""


async def collected(pages: Any) -> list[str]:
    """All lines of a stream of pages."""
    return [line async for page in pages for line in page.lines]


@pytest.fixture
def lines_of() -> Callable[[Any], list[str]]:
    """Run a stream of pages to its end."""
    return lambda pages: asyncio.run(collected(pages))
