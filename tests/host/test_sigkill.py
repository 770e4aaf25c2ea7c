"""What becomes of jobs when SIGKILL hits hosts at the worst moments; docs/explanation/semantics.md promises it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from connector_core import Phase
from connector_core.testing import FakeBackend, FakePropeller
from connector_core.testing.backend import Job
from connector_core.testing.propeller import EngineTask
from tests.support.environments import ROOT
from tests.support.hosts import HostProcess, host_process
from tests.support.redis_server import running_redis

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

takes_keys = pytest.mark.parametrize("takes_keys", [True, False], ids=["backend-takes-keys", "backend-takes-no-keys"])


@dataclass
class Killable:
    """A host in a process of its own, started again on the same port after each kill."""

    hosts: ExitStack
    environment: dict[str, str]
    port: int = 0
    process: HostProcess = field(init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        arguments = ("--modules", "tests.support.backend_plugin", "--port", str(self.port))
        environment: dict[str, Any] = {**self.environment, "PYTHONPATH": str(ROOT)}
        started = host_process(*arguments, **environment)
        self.process = await asyncio.to_thread(self.hosts.enter_context, started)
        self.port = self.process.grpc_port

    async def kill(self) -> None:
        assert await asyncio.to_thread(self.process.stop, signal.SIGKILL) == -signal.SIGKILL


@pytest.fixture
def hosts() -> Iterator[ExitStack]:
    """Ends the host processes that a test starts."""
    with ExitStack() as stack:
        yield stack


async def started(hosts: ExitStack, backend_address: str, **memory: str) -> Killable:
    """Start a host whose jobs run on the backend of this process, and which remembers as `memory` says."""
    settings = {f"CONNECTOR_HOST__MEMORY__{name.upper()}": value for name, value in memory.items()}
    host = Killable(hosts, {"FAKE_BACKEND": backend_address, **settings})
    await host.start()
    return host


async def start_again(propeller: FakePropeller, host: Killable) -> None:
    """Start a killed host; the engine finds it at once, and not after gRPC's pause before it connects again."""
    await host.start()
    await propeller.move([host.address])


async def running(propeller: FakePropeller, task: EngineTask) -> None:
    """Make rounds until the engine knows that a task's job runs."""
    for _ in range(20):
        if task.phase is Phase.RUNNING:
            return
        await propeller.step()
    raise AssertionError(f"the task does not run: {task}")


async def ends_as_its_job(propeller: FakePropeller, task: EngineTask, backend: FakeBackend, job: Job) -> None:
    """Let a job succeed; its task does, with the job's outputs."""
    backend.finish(job, {"of": job.id})
    await propeller.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs == {"of": job.id}


# Between the backend's start of the job and the host's answer


@takes_keys
async def test_a_host_killed_while_it_starts_a_job_leaves_one_that_the_next_attempt_cannot_know(
    hosts: ExitStack, tmp_path: Path, takes_keys: bool
) -> None:
    """The engine sees the connection break and asks for the next attempt, which has another key, whatever the backend."""
    backend = FakeBackend(is_idempotent=takes_keys)
    async with backend.listening() as address:
        host = await started(hosts, address, kind="sqlite", path=str(tmp_path / "memory"))
        async with FakePropeller([host.address], deadline=None) as propeller:
            task = propeller.submit("fake_job")
            held = backend.hold_reply("start")
            create = asyncio.create_task(propeller.step())
            await held.reached()
            await host.kill()
            await create
            assert task.calls[0].code is UNAVAILABLE
            held.release()
            await start_again(propeller, host)
            await running(propeller, task)
            first, second = backend.jobs
            assert (first.is_live, second.is_live) == (True, True)
            assert (first.spec["attempt"], second.spec["attempt"]) == (0, 1)
            await ends_as_its_job(propeller, task, backend, second)
    assert first.history == ["started"]


@takes_keys
async def test_an_engine_that_went_down_with_the_host_repeats_the_attempt_and_a_backend_with_keys_has_one_job(
    hosts: ExitStack, tmp_path: Path, takes_keys: bool
) -> None:
    """A backend that takes no keys starts a second job: nobody can know of the first one."""
    backend = FakeBackend(is_idempotent=takes_keys)
    async with backend.listening() as address:
        host = await started(hosts, address, kind="sqlite", path=str(tmp_path / "memory"))
        async with FakePropeller([host.address], deadline=None) as propeller:
            task = propeller.submit("fake_job")
            held = backend.hold_reply("start")
            create = asyncio.create_task(propeller.step())
            await held.reached()
            await propeller.go_down()
            await create
            await host.kill()
            held.release()
            await start_again(propeller, host)
            propeller.come_back()
            await running(propeller, task)
            assert len(task.attempts) == 1
            assert [job.history[0] for job in backend.jobs] == ["started"] * (1 if takes_keys else 2)
            await ends_as_its_job(propeller, task, backend, backend.jobs[-1])
    assert len(backend.jobs_under(task.prefix)) == (1 if takes_keys else 2)


# Between the answer and what the engine does next


@takes_keys
async def test_a_host_killed_between_create_and_the_first_poll_loses_no_job_and_starts_no_second(
    hosts: ExitStack, takes_keys: bool
) -> None:
    """The handle is with the engine; so not even a memory is needed."""
    backend = FakeBackend(is_idempotent=takes_keys)
    async with backend.listening() as address:
        host = await started(hosts, address)
        async with FakePropeller([host.address]) as propeller:
            task = propeller.submit("fake_job")
            await propeller.step()
            assert task.attempt.resource_meta is not None
            await host.kill()
            await start_again(propeller, host)
            await running(propeller, task)
            (job,) = backend.jobs
            await ends_as_its_job(propeller, task, backend, job)
    assert backend.count("start") == 1


@takes_keys
async def test_a_create_that_is_repeated_after_a_kill_gets_the_same_job_from_the_memory_on_disk(
    hosts: ExitStack, tmp_path: Path, takes_keys: bool
) -> None:
    backend = FakeBackend(is_idempotent=takes_keys)
    async with backend.listening() as address:
        host = await started(hosts, address, kind="sqlite", path=str(tmp_path / "memory"))
        async with FakePropeller([host.address]) as propeller:
            task = propeller.submit("fake_job")
            propeller.faults.fail_to_save()
            await propeller.step()
            assert task.attempt.resource_meta is None
            await host.kill()
            await start_again(propeller, host)
            await running(propeller, task)
            (job,) = backend.jobs
            await ends_as_its_job(propeller, task, backend, job)
    assert backend.count("start") == 1
    assert len(task.calls_of("CreateTask")) == 2


async def test_a_terminal_phase_that_was_told_stands_after_a_kill_though_the_backend_has_forgotten_the_job(
    hosts: ExitStack, tmp_path: Path
) -> None:
    backend = FakeBackend()
    async with backend.listening() as address:
        host = await started(hosts, address, kind="sqlite", path=str(tmp_path / "memory"))
        async with FakePropeller([host.address]) as propeller:
            task = propeller.submit("fake_job")
            await running(propeller, task)
            (job,) = backend.jobs
            await ends_as_its_job(propeller, task, backend, job)
            backend.purge(job)
            await host.kill()
            await start_again(propeller, host)
            await propeller.poll_connectors()
            told = await propeller.get(task)
    assert told.resource is not None
    assert Phase(told.resource.phase) is Phase.SUCCEEDED


async def test_a_poll_that_a_kill_cuts_costs_the_task_one_of_the_engines_six_and_no_more(hosts: ExitStack) -> None:
    backend = FakeBackend()
    async with backend.listening() as address:
        host = await started(hosts, address)
        async with FakePropeller([host.address], deadline=None) as propeller:
            task = propeller.submit("fake_job")
            await running(propeller, task)
            held = backend.hold("status")
            poll = asyncio.create_task(propeller.step())
            await held.reached()
            await host.kill()
            await poll
            held.release()
            assert task.attempt.failed_gets == 1
            await start_again(propeller, host)
            (job,) = backend.jobs
            await ends_as_its_job(propeller, task, backend, job)
    assert task.attempt.failed_gets == 1


async def test_a_delete_that_a_kill_cuts_is_asked_for_again_and_leaves_no_live_job(hosts: ExitStack) -> None:
    backend = FakeBackend()
    async with backend.listening() as address:
        host = await started(hosts, address)
        async with FakePropeller([host.address], deadline=None) as propeller:
            task = propeller.submit("fake_job")
            await running(propeller, task)
            backend.refuse("cancel")
            held = backend.hold_reply("cancel")
            propeller.abort(task)
            delete = asyncio.create_task(propeller.step())
            await held.reached()
            await host.kill()
            await delete
            held.release()
            assert [job.is_live for job in backend.jobs] == [True]
            await start_again(propeller, host)
            await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert backend.live_jobs() == []


# Several hosts


async def test_replicas_killed_one_after_the_other_lose_no_task_and_double_none(hosts: ExitStack) -> None:
    """A backend that takes no keys: it is the memory in Redis that knows what another replica has created."""
    backend = FakeBackend(is_idempotent=False)
    with running_redis() as redis:
        async with backend.listening() as address:
            replicas = [await started(hosts, address, kind="redis", url=redis.url) for _ in range(2)]
            async with FakePropeller([one.address for one in replicas]) as propeller:
                tasks = [propeller.submit("fake_job", path=f"branch{number}/n0") for number in range(6)]
                propeller.faults.fail_to_save(times=3)
                await propeller.step()
                for killed, other in (replicas, reversed(replicas)):
                    await killed.kill()
                    await propeller.move([other.address])
                    await propeller.step()
                    await killed.start()
                for task in tasks:
                    await running(propeller, task)
                assert len(backend.live_jobs()) == len(tasks)
                for task in tasks:
                    (job,) = backend.live_jobs(task.prefix)
                    backend.finish(job, {"of": job.id})
                await propeller.run_until_settled()
    assert {task.phase for task in tasks} == {Phase.SUCCEEDED}
    assert [task.outputs for task in tasks] == [
        {"of": job.id} for task in tasks for job in backend.jobs_under(task.prefix)
    ]
