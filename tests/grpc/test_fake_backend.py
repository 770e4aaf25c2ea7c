import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from connector_core import Phase
from connector_core.testing import BackendConnector, FakeBackend, FakePropeller, running_server
from connector_core.testing.backend import FakeBackendError, JobState
from tests.support.environments import ROOT
from tests.support.hosts import HostProcess, host_process

# Jobs


async def test_every_job_is_kept_with_all_that_happened_to_it() -> None:
    backend = FakeBackend()
    first, second, third = [await backend.start({"n": n}, key=f"key-{n}") for n in range(3)]
    backend.finish(first, {"result": 1})
    backend.fail(second, "out of memory")
    await backend.cancel(third.id)
    await backend.cancel(third.id)
    assert backend.jobs == [first, second, third]
    assert [job.spec for job in backend.jobs] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [job.history for job in backend.jobs] == [
        ["started", "succeeded"],
        ["started", "failed"],
        ["started", "cancelled", "cancelled again"],
    ]
    assert (first.outputs, second.message) == ({"result": 1}, "out of memory")
    assert backend.live_jobs() == []
    assert backend.count("cancel") == 2


async def test_a_job_that_has_ended_stays_as_it_is() -> None:
    backend = FakeBackend()
    job = await backend.start()
    backend.finish(job)
    await backend.cancel(job.id)
    assert job.state is JobState.SUCCEEDED
    with pytest.raises(ValueError, match="job-1 has ended already: it is succeeded"):
        backend.fail(job)


async def test_an_idempotent_backend_starts_one_job_for_a_key() -> None:
    backend = FakeBackend()
    first = await backend.start({"n": 1}, key="a")
    assert await backend.start({"n": 2}, key="a") is first
    assert await backend.start({"n": 3}, key="b") is not first
    assert await backend.start() is not await backend.start()
    assert backend.jobs_of("a") == [first]
    assert first.history == ["started", "started again"]


async def test_a_backend_that_is_not_idempotent_starts_a_job_each_time() -> None:
    backend = FakeBackend(is_idempotent=False)
    for _ in range(2):
        await backend.start(key="a")
    assert len(backend.live_jobs()) == len(backend.jobs_of("a")) == 2


async def test_a_job_may_finish_by_itself_after_so_many_looks() -> None:
    backend = FakeBackend(finishes_after=2)
    job = await backend.start()
    assert (await backend.status(job.id)).state is JobState.RUNNING
    assert (await backend.status(job.id)).state is JobState.SUCCEEDED


async def test_a_purged_job_is_not_known_to_callers_but_kept_for_the_test() -> None:
    backend = FakeBackend()
    job = await backend.start(key="a")
    backend.purge(job)
    for operation in (backend.status, backend.cancel):
        with pytest.raises(FakeBackendError, match="404 there is no job 'job-1'"):
            await operation(job.id)
    assert backend.live_jobs() == [job]
    assert await backend.start(key="a") is not job
    assert [call.status for call in backend.calls] == [200, 404, 404, 200]


# Trouble


async def test_a_refused_call_has_no_effect_and_one_whose_reply_is_lost_has() -> None:
    backend = FakeBackend()
    backend.refuse("start", times=2)
    backend.lose_reply("start")
    for status in (503, 503, 504):
        with pytest.raises(FakeBackendError, match=str(status)):
            await backend.start()
    assert len(backend.jobs) == 1
    await backend.start()
    assert len(backend.jobs) == 2


async def test_trouble_without_an_end_lasts_until_the_backend_is_healed() -> None:
    backend = FakeBackend()
    job = await backend.start()
    backend.refuse("status", 500, times=None)
    for _ in range(3):
        with pytest.raises(FakeBackendError, match="500 refused"):
            await backend.status(job.id)
    backend.heal()
    assert await backend.status(job.id) is job


async def test_a_held_call_takes_effect_when_it_is_released_even_if_nobody_waits_any_more() -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    patient, impatient = asyncio.create_task(backend.start()), asyncio.create_task(backend.start())
    await hold.reached(2)
    impatient.cancel()
    assert backend.jobs == []
    hold.release()
    assert (await patient).is_live
    assert len(backend.jobs) == 2
    await backend.start()
    assert backend.count("start") == 3


async def test_a_held_reply_keeps_the_caller_waiting_while_the_job_runs() -> None:
    backend = FakeBackend()
    hold = backend.hold_reply("start")
    call = asyncio.create_task(backend.start())
    await hold.reached()
    assert len(backend.live_jobs()) == 1
    assert not call.done()
    backend.heal()
    assert await call is backend.jobs[0]


async def test_what_the_backend_does_not_have_cannot_be_troubled() -> None:
    backend = FakeBackend()
    for plan in (backend.refuse, backend.lose_reply, backend.hold, backend.hold_reply):
        with pytest.raises(ValueError, match="no operation 'create'; it has start, status, cancel"):
            plan("create")
    backend.hold("start")
    with pytest.raises(ValueError, match="held already"):
        backend.hold_reply("start")


async def test_waiting_for_what_does_not_happen_ends() -> None:
    with pytest.raises(TimeoutError):
        await FakeBackend().until(lambda: False, patience=0.01)


# Behind a host


async def test_a_task_ends_as_its_job_does() -> None:
    backend = FakeBackend()
    async with running_server(BackendConnector(backend)) as host, FakePropeller([host.address]) as propeller:
        good, bad, gone = [propeller.submit("fake_job", {"n": n}) for n in range(3)]
        await propeller.step()
        await propeller.step()
        assert {task.phase for task in (good, bad, gone)} == {Phase.RUNNING}
        of = {task: backend.jobs_under(task.prefix)[0] for task in (good, bad, gone)}
        backend.finish(of[good], {"rows": 3})
        backend.fail(of[bad], "no such table")
        await backend.cancel(of[gone].id)
        await propeller.run_until_settled()
    assert (good.phase, good.outputs) == (Phase.SUCCEEDED, {"rows": 3})
    assert (bad.phase, bad.message) == (Phase.FAILED, "no such table")
    assert gone.phases[-1] is Phase.ABORTED
    assert of[good].spec["inputs"] == {"n": 0}
    assert of[good].spec["execution"] == "flyte/development/execution/n0/0"
    assert len({job.key for job in backend.jobs}) == 3


async def test_a_test_may_wait_for_what_happens_on_the_hosts_own_loops() -> None:
    backend = FakeBackend()
    hold = backend.hold("start")
    async with running_server(BackendConnector(backend)) as host, FakePropeller([host.address]) as propeller:
        propeller.submit("fake_job")
        create = asyncio.create_task(propeller.step())
        await hold.reached()
        assert not create.done()
        hold.release()
        await create
        (job,) = await backend.until(backend.live_jobs)
    assert job.is_live


async def test_an_aborted_tasks_job_is_cancelled_and_one_that_is_gone_is_no_error() -> None:
    backend = FakeBackend()
    async with running_server(BackendConnector(backend)) as host, FakePropeller([host.address]) as propeller:
        tasks = [propeller.submit("fake_job") for _ in range(2)]
        await propeller.step()
        backend.purge(backend.jobs_under(tasks[1].prefix)[0])
        for task in tasks:
            propeller.abort(task)
        await propeller.run_until_settled()
    assert [call.code for task in tasks for call in task.calls_of("DeleteTask")] == [grpc.StatusCode.OK] * 2
    assert backend.live_jobs(tasks[0].prefix) == []


async def test_a_connector_may_keep_the_key_to_itself() -> None:
    backend = FakeBackend()
    connector = BackendConnector(backend, "keyless", passes_key=False)
    async with running_server(connector) as host, FakePropeller([host.address]) as propeller:
        propeller.submit("keyless")
        await propeller.step()
    assert [job.key for job in backend.jobs] == [None]


@pytest.mark.parametrize(("operation", "status"), [("start", 400), ("status", 404)])
async def test_what_the_backend_refuses_for_good_fails_the_task(operation: str, status: int) -> None:
    backend = FakeBackend()
    backend.refuse(operation, status)
    async with running_server(BackendConnector(backend)) as host, FakePropeller([host.address]) as propeller:
        task = propeller.submit("fake_job")
        await propeller.run_until_settled()
    assert task.phase is Phase.FAILED
    assert len(task.attempts) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_what_the_backend_refuses_for_now_is_tried_again(status: int) -> None:
    backend = FakeBackend()
    backend.refuse("start", status)
    backend.refuse("cancel", status)
    async with running_server(BackendConnector(backend)) as host, FakePropeller([host.address]) as propeller:
        task = propeller.submit("fake_job")
        while task.attempt.resource_meta is None:
            await propeller.step()
        propeller.abort(task)
        await propeller.run_until_settled()
    assert task.phase is Phase.ABORTED
    assert backend.live_jobs() == []


# In another process


async def test_another_process_talks_to_the_backend_in_lines_of_json() -> None:
    backend = FakeBackend()
    async with backend.listening() as address:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = []
        for request in (
            {"operation": "start", "spec": {"n": 1}, "key": "a"},
            {"operation": "status", "job_id": "job-1"},
            {"operation": "cancel", "job_id": "job-7"},
        ):
            writer.write(json.dumps(request).encode() + b"\n")
            answers.append(json.loads(await reader.readline()))
        writer.close()
    job = {"id": "job-1", "state": "running", "outputs": {}, "message": ""}
    assert answers == [{"job": job}, {"job": job}, {"error": {"status": 404, "message": "there is no job 'job-7'"}}]
    assert backend.jobs[0].key == "a"


@pytest.fixture
def hosts() -> Iterator[ExitStack]:
    """Ends the host processes that a test enters."""
    with ExitStack() as stack:
        yield stack


async def start_host(hosts: ExitStack, backend_address: str) -> HostProcess:
    """Start a host whose connector uses the backend of this process."""
    process = host_process(
        "--modules", "tests.support.backend_plugin", FAKE_BACKEND=backend_address, PYTHONPATH=str(ROOT)
    )
    return await asyncio.to_thread(hosts.enter_context, process)


async def test_a_job_outlives_the_host_process_that_was_killed_while_it_started_it(hosts: ExitStack) -> None:
    backend = FakeBackend()
    async with backend.listening() as address:
        killed = await start_host(hosts, address)
        async with FakePropeller([killed.address]) as propeller:
            task = propeller.submit("fake_job", {"n": 1})
            hold = backend.hold_reply("start")
            create = asyncio.create_task(propeller.step())
            await hold.reached()
            await asyncio.to_thread(killed.stop, signal.SIGKILL)
            await create
            assert task.calls[0].code is grpc.StatusCode.UNAVAILABLE
            assert [job.is_live for job in backend.jobs] == [True]
            hold.release()
            await propeller.move([(await start_host(hosts, address)).address])
            for _ in range(2):
                await propeller.step()
            assert task.phase is Phase.RUNNING
            for job in backend.live_jobs(task.prefix):
                backend.finish(job, {"rows": 3})
            await propeller.run_until_settled()
    assert task.outputs == {"rows": 3}
    assert backend.jobs[0].spec == {"inputs": {"n": 1}, "output_prefix": f"{task.prefix}0", "attempt": 0}
