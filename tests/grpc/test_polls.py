"""GetTask rides out trouble: the engine gives up on a task after six failures in its whole life."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.service.agent_pb2_grpc import AsyncAgentServiceStub

from connector_core import Connection, Phase, Resource
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorError,
    JobNotFoundError,
    PermanentError,
    RateLimitedError,
    TransientError,
)
from connector_core.invocation.offers import JobOffer
from connector_core.jobs.memory_process import ProcessMemory
from connector_core.jobs.polls import Polls
from connector_core.settings import Settings
from connector_core.tables import read
from connector_core.testing import RunningServer, running_server
from tests.fakes import Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.places import described, local_invoker
from tests.support.redis_server import running_redis

AWAY = BackendUnavailableError("the warehouse is away")
BUSY = RateLimitedError("the warehouse is busy", retry_after=3600)
"""Trouble after which no call has the time to try again."""

SHORT = {"deadlines": {"get": 0.4}}
"""Settings with which trouble is not ridden out within one call for long."""


def job(job_id: str) -> bytes:
    return JobMeta(job_id).encode()


class Script:
    """Answers `get` with one thing after the other, and with the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def get(self, resource_meta: JobMeta) -> Any:
        self.calls += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def scripted(*answers: Any) -> tuple[Jobs, Script]:
    script = Script(*answers)
    return Jobs("job", get=script.get), script


class Many(Jobs):
    """A connector with `get_many`, which a test gives."""

    def __init__(self, get_many: Callable[[list[JobMeta]], Any], task_type: str = "job") -> None:
        super().__init__(task_type)
        self.asked: list[list[str]] = []
        self._get_many = get_many

    async def get_many(self, resource_metas: list[JobMeta]) -> Any:
        self.asked.append([meta.job_id for meta in resource_metas])
        answer = self._get_many(resource_metas)
        return await answer if asyncio.iscoroutine(answer) else answer


async def status(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def in_flight(server: RunningServer, count: int) -> None:
    """Wait until so many GetTask calls have come."""
    labels = {"task_type": "job", "operation": "get"}
    await eventually(lambda: server.metric("flyte_connector_requests_in_flight", **labels) == count)


# --- Transient trouble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [AWAY, ValueError("no"), json.JSONDecodeError("no", "<html>", 0), ConnectionResetError(), KeyError("x")]
)
async def test_trouble_is_ridden_out_within_one_call(trouble: Exception) -> None:
    connector, script = scripted(trouble, trouble, trouble, Resource(Phase.RUNNING, message="on it"))
    async with running_server(connector) as server:
        resource = await server.get("job", job("1"), timeout=20)
    assert (Phase(resource.phase), resource.message, script.calls) == (Phase.RUNNING, "on it", 4)


async def test_then_the_last_known_phase_is_answered_and_says_so() -> None:
    connector, _script = scripted(Resource(Phase.QUEUED), BUSY)
    async with running_server(connector) as server:
        await server.get("job", job("1"))
        resource = await server.get("job", job("1"))
    assert Phase(resource.phase) is Phase.QUEUED
    assert "this is the last known phase: plugin 'test-job connector': the warehouse is busy" in resource.message


async def test_where_no_phase_is_known_the_job_is_taken_to_run() -> None:
    connector, _script = scripted(BUSY)
    async with running_server(connector) as server:
        resource = await server.get("job", job("1"))
    assert Phase(resource.phase) is Phase.RUNNING
    assert "no phase is known, so RUNNING is answered" in resource.message


@pytest.mark.parametrize(
    "trouble",
    [
        ValueError("no"),
        json.JSONDecodeError("no", "<html>", 0),
        PermissionError("no"),
        FileNotFoundError("no"),
        NotImplementedError("no"),
        RecursionError("no"),
        SystemExit(1),
        asyncio.CancelledError("no"),
        TransientError(cast("str", ValueError("an exception for a message"))),
        RateLimitedError("slow down", retry_after=cast("float", "30")),
        RateLimitedError("slow down", retry_after=float("nan")),
        RateLimitedError("slow down", retry_after=float("inf")),
        RateLimitedError("slow down", retry_after=-5),
        RateLimitedError("slow down", retry_after=cast("float", "Wed, 21 Oct 2015 07:28:00 GMT")),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
async def test_what_does_not_say_that_it_is_permanent_never_fails_a_job(trouble: BaseException) -> None:
    connector, _script = scripted(trouble)
    async with running_server(connector, settings=SHORT) as server:
        resource = await server.get("job", job("1"))
    assert Phase(resource.phase) is Phase.RUNNING


async def test_a_pause_that_the_call_cannot_last_for_is_not_begun() -> None:
    connector, script = scripted(RateLimitedError("slow down", retry_after=3600))
    async with running_server(connector) as server, asyncio.timeout(10):
        resource = await server.get("job", job("1"))
    assert (Phase(resource.phase), script.calls) == (Phase.RUNNING, 1)


async def test_a_get_that_hangs_is_answered_before_the_clients_deadline() -> None:
    never = Never()

    async def get(resource_meta: JobMeta) -> Any:
        await never.wait()

    async with running_server(Jobs("job", get=get)) as server:
        resource = await server.get("job", job("1"), timeout=1)
        await happens(never.cancelled)
    assert Phase(resource.phase) is Phase.RUNNING


async def test_one_who_joins_a_call_that_hangs_is_answered_before_its_own_deadline() -> None:
    never = Never()

    async def get(resource_meta: JobMeta) -> Any:
        await never.wait()

    async with running_server(Jobs("job", get=get)) as server:
        patient = asyncio.create_task(server.get("job", job("1")))
        await happens(never.begun)
        resource = await server.get("job", job("1"), timeout=0.5)
        patient.cancel()
    assert Phase(resource.phase) is Phase.RUNNING


# --- The error budget ----------------------------------------------------------------------------------------------


async def test_failures_in_a_row_use_up_the_budget_and_a_success_fills_it() -> None:
    connector, _script = scripted(BUSY, BUSY, Resource(Phase.RUNNING), BUSY, BUSY, BUSY)
    settings = {"ride_out": {"failures": 2}}
    async with running_server(connector, settings=settings) as server:
        for _ in range(5):
            assert Phase((await server.get("job", job("1"))).phase) is Phase.RUNNING
        for _ in range(2):
            error = await status(server.get("job", job("1")))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "the warehouse is busy" in str(error.details())
        assert Phase((await server.get("job", job("another"))).phase) is Phase.RUNNING


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Direct:
    """Polls without a server around them."""

    def __init__(self, connector: Jobs, *, memory: Any = None, clock: Clock | None = None, **settings: Any) -> None:
        self.clock = clock or Clock()
        self.invoker = local_invoker()
        self.memory = memory or ProcessMemory(10_000_000)
        chosen = read(Settings, settings)
        self.polls = Polls(self.invoker, self.memory, chosen, limit_of=lambda _connector, _name: 30, clock=self.clock)
        self.connector = described(connector)

    async def get(self, job_id: str, timeout: float | None = None) -> agent_pb2.Resource:
        return await self.polls.get(self.connector, JobOffer(job(job_id)), timeout)

    async def close(self) -> None:
        await self.invoker.close(5)


async def test_time_uses_up_the_budget_too() -> None:
    connector, _script = scripted(BUSY, BUSY, Resource(Phase.QUEUED), BUSY)
    direct = Direct(connector, ride_out={"seconds": 600})
    await direct.get("1")
    direct.clock.now += 600
    await direct.get("1")
    direct.clock.now += 600
    assert Phase((await direct.get("1")).phase) is Phase.QUEUED
    direct.clock.now += 600
    assert Phase((await direct.get("1")).phase) is Phase.QUEUED
    direct.clock.now += 601
    with pytest.raises(RateLimitedError):
        await direct.get("1")
    await direct.close()


async def test_a_budget_of_nothing_lets_the_first_error_out() -> None:
    connector, _script = scripted(BUSY)
    direct = Direct(connector, ride_out={"failures": 0})
    with pytest.raises(RateLimitedError):
        await direct.get("1")
    await direct.close()


# --- Answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned nothing, not a Resource"),
        ("RUNNING", "returned a str, not a Resource"),
        (agent_pb2.Resource(), "in phase 0, which is none of QUEUED"),
        (Resource(cast("Phase", 0)), "in phase 0, which is none of QUEUED"),
        (Resource(cast("Phase", "RUNNING")), "in phase 'RUNNING'"),
        (Resource(cast("Phase", None)), "in phase None"),
    ],
)
async def test_what_is_no_answer_is_called_so(answer: Any, words: str) -> None:
    connector, script = scripted(answer)
    async with running_server(connector) as server:
        error = await status(server.get("job", job("1")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert words in str(error.details())
    assert "test-job connector" in str(error.details())
    assert script.calls == 1


async def test_a_meta_that_is_none_is_the_callers_fault_and_not_ridden_out() -> None:
    connector, script = scripted(Resource(Phase.RUNNING))
    async with running_server(connector) as server:
        error = await status(server.get("job", b'{"job_id": 1}'))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "field 'job_id'" in str(error.details())
    assert script.calls == 0


# --- Last words ----------------------------------------------------------------------------------------------------


async def test_a_permanent_error_is_a_failed_job() -> None:
    connector, script = scripted(PermanentError("the table is gone", error_code="NoTable"), Resource(Phase.RUNNING))
    async with running_server(connector) as server:
        answers = [await server.get("job", job("1")) for _ in range(2)]
    assert answers[0] == answers[1]
    assert Phase(answers[0].phase) is Phase.FAILED
    assert answers[0].message == "plugin 'test-job connector', get(): the table is gone"
    assert answers[0].agent_error.code == "NoTable"
    assert script.calls == 1


async def test_a_job_that_the_backend_forgot_has_failed() -> None:
    connector, _script = scripted(JobNotFoundError("no such job"))
    async with running_server(connector) as server:
        resource = await server.get("job", job("1"))
    assert (Phase(resource.phase), resource.agent_error.code) == (Phase.FAILED, "JobNotFound")


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED, Phase.RETRYABLE_FAILED])
@pytest.mark.parametrize("afterwards", [Resource(Phase.RUNNING), AWAY, PermanentError("gone"), None])
async def test_a_last_word_stands_and_is_not_asked_for_again(phase: Phase, afterwards: Any) -> None:
    last_word = Resource(phase, outputs={"x": 1} if phase is Phase.SUCCEEDED else None, message="over")
    connector, script = scripted(Resource(Phase.RUNNING), last_word, afterwards)
    async with running_server(connector) as server:
        await server.get("job", job("1"))
        answers = [await server.get("job", job("1")) for _ in range(3)]
    assert [Phase(answer.phase) for answer in answers] == [phase] * 3
    assert answers[0] == answers[1] == answers[2]
    assert script.calls == 2


async def test_tasks_with_one_resource_meta_are_jobs_of_their_own() -> None:
    connector, script = scripted(Resource(Phase.SUCCEEDED), Resource(Phase.RUNNING), Resource(Phase.FAILED))
    async with running_server(connector) as server:
        for _ in range(2):
            monday = await server.get("job", job("watch the file"), output_prefix="s3://bucket/monday/n0/data/0")
            assert Phase(monday.phase) is Phase.SUCCEEDED
        tuesday = await server.get("job", job("watch the file"), output_prefix="s3://bucket/tuesday/n0/data/0")
        assert Phase(tuesday.phase) is Phase.RUNNING
    assert script.calls == 2


LARGE = Resource(Phase.SUCCEEDED, outputs={"x": "x" * 100_000})


@pytest.mark.parametrize("afterwards", [Resource(Phase.RUNNING), BUSY, PermanentError("gone")])
async def test_a_success_too_large_to_keep_is_asked_for_again_and_neither_reverts_nor_loses_its_outputs(
    afterwards: Any,
) -> None:
    connector, script = scripted(LARGE, afterwards, LARGE)
    async with running_server(connector) as server:
        first = await server.get("job", job("1"))
        error = await status(server.get("job", job("1")))
        assert await server.get("job", job("1")) == first
    assert len(first.outputs.literals["x"].scalar.primitive.string_value) == 100_000
    assert error.code() is (grpc.StatusCode.RESOURCE_EXHAUSTED if afterwards is BUSY else grpc.StatusCode.UNAVAILABLE)
    assert script.calls == 3


async def test_a_failure_too_large_to_keep_is_kept_without_what_is_only_nice_to_have() -> None:
    large = Resource(Phase.FAILED, message="it broke", error_code="Broken", custom_info={"x": "x" * 100_000})
    connector, script = scripted(large, Resource(Phase.RUNNING))
    async with running_server(connector) as server:
        answers = [await server.get("job", job("1")) for _ in range(2)]
    assert [Phase(answer.phase) for answer in answers] == [Phase.FAILED] * 2
    assert [(answer.message, answer.agent_error.code) for answer in answers] == [("it broke", "Broken")] * 2
    assert script.calls == 1


async def test_one_who_waits_too_long_for_another_call_is_never_given_a_success_without_its_outputs() -> None:
    """The other call may come to its end at that very moment, or on another host."""
    gate = Gate()

    async def get(resource_meta: JobMeta) -> Resource:
        await asyncio.to_thread(gate.block)
        return Resource(Phase.SUCCEEDED, outputs={"x": 1})

    async with running_server(Jobs("job", get=get)) as server:
        asking = asyncio.create_task(server.get("job", job("1")))
        await gate.reached()
        other = Direct(Jobs("job"), memory=server.server.memory)
        other.connector = server.server.registry.lookup("job")
        waiting = asyncio.create_task(server.get("job", job("1"), timeout=0.4))
        await in_flight(server, 2)
        other.connector = described(Jobs("job"))  # its get() answers SUCCEEDED at once
        learnt = await other.get("1")
        assert learnt.HasField("outputs")
        answer = await waiting
        assert Phase(answer.phase) is not Phase.SUCCEEDED or answer.HasField("outputs")
        gate.open()
        await asking
        await other.close()


# --- Load on backends ----------------------------------------------------------------------------------------------


async def test_calls_for_one_job_at_the_same_time_run_once() -> None:
    gate, calls = Gate(), Counter[str]()

    def get(resource_meta: JobMeta) -> Resource:
        calls[resource_meta.job_id] += 1
        gate.block()
        return Resource(Phase.RUNNING, message=resource_meta.job_id)

    async with running_server(Jobs("job", get=get)) as server:
        polls = [asyncio.create_task(server.get("job", job(str(number % 2)))) for number in range(20)]
        await in_flight(server, 20)
        await gate.reached(2)
        gate.open()
        answers = [await poll for poll in polls]
    assert [answer.message for answer in answers] == ["0", "1"] * 10
    assert calls == {"0": 1, "1": 1}


async def test_an_error_reaches_all_who_wait_for_one_job() -> None:
    gate = Gate()

    def get(resource_meta: JobMeta) -> Resource:
        gate.block()
        raise BUSY

    async with running_server(Jobs("job", get=get), settings={"ride_out": {"failures": 0}}) as server:
        polls = [asyncio.create_task(status(server.get("job", job("1")))) for _ in range(5)]
        await in_flight(server, 5)
        gate.open()
        errors = [await poll for poll in polls]
    assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_when_the_first_caller_goes_the_next_one_asks() -> None:
    never, gate = Never(), Gate()
    calls: list[str] = []

    async def get(resource_meta: JobMeta) -> Resource:
        calls.append(resource_meta.job_id)
        if len(calls) == 1:
            await never.wait()
        await asyncio.to_thread(gate.block)
        return Resource(Phase.QUEUED)

    async with running_server(Jobs("job", get=get)) as server:
        first = asyncio.create_task(server.get("job", job("1")))
        await happens(never.begun)
        others = [asyncio.create_task(server.get("job", job("1"))) for _ in range(5)]
        await in_flight(server, 6)
        first.cancel()
        await gate.reached()
        await happens(never.cancelled)
        gate.open()
        answers = await asyncio.gather(*others)
    assert [Phase(answer.phase) for answer in answers] == [Phase.QUEUED] * 5
    assert len(calls) == 2


async def test_one_who_takes_over_late_is_still_answered_before_its_own_deadline() -> None:
    never = Never()

    async def get(resource_meta: JobMeta) -> Any:
        await never.wait()

    async with running_server(Jobs("job", get=get)) as server:
        first = asyncio.create_task(server.get("job", job("1")))
        await happens(never.begun)
        second = asyncio.create_task(server.get("job", job("1"), timeout=1.5))
        asyncio.get_running_loop().call_later(1, first.cancel)
        assert Phase((await second).phase) is Phase.RUNNING


async def test_nothing_is_left_behind_by_calls_that_end_in_any_way() -> None:
    outcomes: list[Any] = [Resource(Phase.RUNNING), BUSY, PermanentError("no"), None, asyncio.CancelledError()]

    async def get(resource_meta: JobMeta) -> Any:
        outcome = outcomes[int(resource_meta.job_id) % len(outcomes)]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    direct = Direct(Jobs("job", get=get))
    polls = [asyncio.create_task(direct.get(str(number % 100), timeout=0.1)) for number in range(500)]
    await asyncio.sleep(0)
    for poll in polls[::7]:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    assert direct.polls._asking == {}
    await direct.close()


class Rarely(Jobs):
    """A connector that does not want to be asked often."""

    min_poll_interval: float = 3600


async def test_within_min_poll_interval_the_last_answer_is_given_again() -> None:
    script = Script(Resource(Phase.RUNNING), Resource(Phase.QUEUED))
    async with running_server(Rarely("job", get=script.get)) as server:
        answers = [await server.get("job", job("1")) for _ in range(3)]
        await server.get("job", job("2"))
    assert [Phase(answer.phase) for answer in answers] == [Phase.RUNNING] * 3
    assert script.calls == 2


async def test_after_min_poll_interval_the_connector_is_asked_again() -> None:
    script = Script(Resource(Phase.RUNNING))
    connector = Rarely("job", get=script.get)
    connector.min_poll_interval = 1e-9
    async with running_server(connector) as server:
        for _ in range(3):
            await server.get("job", job("1"))
    assert script.calls == 3


async def test_large_answers_are_not_kept_for_min_poll_interval() -> None:
    script = Script(Resource(Phase.RUNNING, custom_info={"x": "x" * 100_000}))
    async with running_server(Rarely("job", get=script.get)) as server:
        for _ in range(2):
            await server.get("job", job("1"))
    assert script.calls == 2


# --- get_many ------------------------------------------------------------------------------------------------------


def all_running(metas: Sequence[JobMeta]) -> list[Resource]:
    return [Resource(Phase.RUNNING, message=meta.job_id) for meta in metas]


async def test_many_polls_at_the_same_time_become_few_calls() -> None:
    connector = Many(all_running)
    async with running_server(connector, settings={"batch": {"window": 0.02}}) as server:
        answers = await asyncio.gather(*(server.get("job", job(str(number))) for number in range(500)))
    assert [answer.message for answer in answers] == [str(number) for number in range(500)]
    assert len(connector.asked) <= 250
    assert sum(map(len, connector.asked)) == 500


async def test_ten_thousand_running_jobs_are_asked_for_in_some_tens_of_calls(
    record_property: Callable[[str, object], None],
) -> None:
    """The engine polls with a few hundred workers at a time; every job is polled once."""
    connector = Many(all_running)
    direct = Direct(connector)
    for begin in range(0, 10_000, 500):
        polls = [direct.get(str(number), timeout=60) for number in range(begin, begin + 500)]
        answers = await asyncio.gather(*polls)
        assert [answer.message for answer in answers] == [str(number) for number in range(begin, begin + 500)]
    record_property("get_many calls for 10,000 jobs", len(connector.asked))
    assert sum(map(len, connector.asked)) == 10_000
    assert len(connector.asked) <= 200
    await direct.close()


async def test_a_batch_has_no_more_jobs_than_its_size() -> None:
    connector = Many(all_running)
    async with running_server(connector, settings={"batch": {"size": 7, "window": 3600}}) as server:
        await asyncio.gather(*(server.get("job", job(str(number))) for number in range(70)))
    assert [len(asked) for asked in connector.asked] == [7] * 10


async def together(server: RunningServer, *metas: bytes) -> list[Any]:
    polls = [asyncio.create_task(server.get("job", meta)) for meta in metas]
    return await asyncio.gather(*polls, return_exceptions=True)


async def test_a_bad_meta_fails_alone() -> None:
    connector = Many(all_running)
    async with running_server(connector, settings={"batch": {"size": 3, "window": 3600}}) as server:
        first, bad, last = await together(server, job("1"), b"{}", job("3"))
    assert (first.message, last.message) == ("1", "3")
    assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "field 'job_id'" in bad.details()
    assert [sorted(asked) for asked in connector.asked] == [["1", "3"]]


async def test_a_bad_meta_keeps_its_own_error_where_the_batch_has_one() -> None:
    def get_many(metas: Sequence[JobMeta]) -> Any:
        raise BUSY

    settings = {"batch": {"size": 2, "window": 3600}}
    async with running_server(Many(get_many), settings=settings) as server:
        bad, good = await together(server, b"{}", job("1"))
    assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert Phase(good.phase) is Phase.RUNNING
    assert "the warehouse is busy" in good.message


async def test_there_is_a_connection_for_each_meta_of_a_batch() -> None:
    seen = []

    class Connected(Many):
        async def get_many(self, connections: list[Connection], resource_metas: list[JobMeta]) -> Any:  # type: ignore[override]
            seen.append((len(connections), len(resource_metas)))
            return all_running(resource_metas)

    async with running_server(Connected(all_running), settings={"batch": {"size": 3, "window": 3600}}) as server:
        await together(server, job("1"), b"{}", job("3"))
    assert seen == [(2, 2)]


class Fragile(JobMeta):
    """A handle whose own `decode` raises whatever comes."""

    @classmethod
    def decode(cls, data: bytes) -> "Fragile":
        return cls(json.loads(data)["job_id"])


async def test_a_meta_on_which_the_plugins_own_decode_fails_does_so_alone() -> None:
    connector = Many(all_running)
    connector.metadata_type = Fragile
    settings = {"deadlines": {"get": 1}, "batch": {"size": 2, "window": 3600}}
    async with running_server(connector, settings=settings) as server:
        bad, good = await together(server, b"no JSON", job("1"))
    assert good.message == "1"
    assert "JSONDecodeError" in bad.message
    assert "test-job connector" in bad.message


async def test_an_exception_in_the_list_fails_alone_and_names_the_plugin() -> None:
    def get_many(metas: Sequence[JobMeta]) -> list[Any]:
        answers = {
            "gone": PermanentError("gone for good"),
            "busy": BUSY,
            "wrong": ValueError("no"),
            "none": None,
            "good": Resource(Phase.QUEUED),
        }
        return [answers[meta.job_id] for meta in metas]

    settings = {"deadlines": {"get": 1}, "batch": {"size": 5, "window": 3600}}
    async with running_server(Many(get_many), settings=settings) as server:
        gone, busy, wrong, none, good = await together(server, *map(job, ["gone", "busy", "wrong", "none", "good"]))
    assert Phase(gone.phase) is Phase.FAILED
    assert gone.message == "plugin 'test-job connector', get_many(): gone for good"
    assert [Phase(one.phase) for one in (busy, wrong)] == [Phase.RUNNING] * 2
    assert "plugin 'test-job connector': the warehouse is busy" in busy.message
    assert "plugin 'test-job connector': ValueError: no" in wrong.message
    assert none.code() is grpc.StatusCode.INTERNAL
    assert "plugin 'test-job connector', get_many(): returned nothing" in none.details()
    assert Phase(good.phase) is Phase.QUEUED


@pytest.mark.parametrize("answer", [[], [Resource(Phase.RUNNING)] * 3, None, "ab", {"a": 1, "b": 2}])
async def test_an_answer_of_another_length_or_kind_is_called_so(answer: Any) -> None:
    connector = Many(lambda _metas: answer)
    async with running_server(connector, settings={"batch": {"size": 2, "window": 3600}}) as server:
        errors = await together(server, job("1"), job("2"))
    assert {error.code() for error in errors} == {grpc.StatusCode.INTERNAL}
    assert all("get_many()" in error.details() for error in errors)
    assert len(connector.asked) == 1


async def test_trouble_with_a_whole_batch_is_ridden_out() -> None:
    troubles = [AWAY, ValueError("no"), AWAY]

    def get_many(metas: Sequence[JobMeta]) -> list[Resource]:
        if troubles:
            raise troubles.pop()
        return all_running(metas)

    async with running_server(Many(get_many)) as server:
        answers = await together(server, job("1"), job("2"))
    assert [answer.message for answer in answers] == ["1", "2"]


async def test_a_get_many_that_hangs_is_answered_before_each_clients_deadline() -> None:
    never = Never()

    async def hang() -> None:
        await never.wait()

    settings = {"batch": {"size": 2, "window": 3600}}
    async with running_server(Many(lambda _metas: hang()), settings=settings) as server:
        patient = asyncio.create_task(server.get("job", job("1")))
        resource = await server.get("job", job("2"), timeout=0.6)
        patient.cancel()
    assert Phase(resource.phase) is Phase.RUNNING


async def test_a_client_that_goes_takes_nobody_elses_answer_along() -> None:
    gate = Gate()

    async def get_many(metas: Sequence[JobMeta]) -> list[Resource]:
        await asyncio.to_thread(gate.block)
        return all_running(metas)

    connector = Many(get_many)
    async with running_server(connector, settings={"batch": {"size": 2, "window": 3600}}) as server:
        goes = asyncio.create_task(server.get("job", job("1")))
        stays = asyncio.create_task(server.get("job", job("2")))
        await gate.reached()
        goes.cancel()
        await in_flight(server, 1)
        gate.open()
        assert (await stays).message == "2"


async def test_nothing_of_batches_is_left_behind_at_the_end() -> None:
    never = Never()

    async def hang() -> None:
        await never.wait()

    direct = Direct(Many(lambda _metas: hang()), batch={"size": 2, "window": 3600})
    asked = [asyncio.create_task(direct.get(job_id, timeout=1)) for job_id in ("1", "2", "3")]
    await happens(never.begun)
    await direct.close()
    answers = await asyncio.gather(*asked)
    assert {Phase(answer.phase) for answer in answers} == {Phase.RUNNING}
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


# --- Limits --------------------------------------------------------------------------------------------------------


async def test_outputs_that_the_engine_cannot_receive_fail_the_job_and_say_so() -> None:
    connector, script = scripted(Resource(Phase.SUCCEEDED, outputs={"x": "x" * 5_000_000}))
    async with running_server(connector) as server:
        answers = [await server.get("job", job("1")) for _ in range(2)]
    assert Phase(answers[0].phase) is Phase.FAILED
    assert "the engine receives 4,194,304" in answers[0].message
    assert answers[0].agent_error.code == "OutputsTooLarge"
    assert answers[0] == answers[1]
    assert script.calls == 1


@pytest.mark.parametrize("spare", [0, 20, 40, 60, 80, 100])
async def test_the_largest_answer_reaches_a_client_with_grpcs_default_limit(spare: int) -> None:
    connector, _script = scripted(Resource(Phase.SUCCEEDED, outputs={"x": "x" * (4 * 1024 * 1024 - spare)}))
    async with running_server(connector) as server, grpc.aio.insecure_channel(server.address) as engine:
        request = agent_pb2.GetTaskRequest(
            task_category=agent_pb2.TaskCategory(name="job"), resource_meta=job("1"), output_prefix=""
        )
        answer = await AsyncAgentServiceStub(engine).GetTask(request)
    assert Phase(answer.resource.phase) in {Phase.SUCCEEDED, Phase.FAILED}


async def test_a_long_message_is_cut() -> None:
    connector, _script = scripted(Resource(Phase.RUNNING, message="m" * 1_000_000))
    async with running_server(connector) as server:
        resource = await server.get("job", job("1"))
    assert len(resource.message) <= 16 * 1024
    assert resource.message.endswith("(cut here)")


async def test_a_long_error_is_cut() -> None:
    connector, _script = scripted(RateLimitedError("m" * 1_000_000, retry_after=3600))
    async with running_server(connector) as server:
        resource = await server.get("job", job("1"))
    assert len(resource.message) <= 2048


# --- What is remembered --------------------------------------------------------------------------------------------


async def test_a_memory_that_fails_costs_no_answer(tmp_path: Path) -> None:
    connector, _script = scripted(Resource(Phase.QUEUED), BUSY, Resource(Phase.SUCCEEDED))
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    async with running_server(connector, settings=settings) as server:
        await server.server.memory.close()
        phases = [Phase((await server.get("job", job("1"))).phase) for _ in range(3)]
    assert phases == [Phase.QUEUED, Phase.RUNNING, Phase.SUCCEEDED]


async def test_redis_that_goes_costs_no_answer() -> None:
    connector, _script = scripted(Resource(Phase.QUEUED))
    with running_redis() as redis:
        settings = {"memory": {"kind": "redis", "url": redis.url}}
        async with running_server(connector, settings=settings) as server:
            await server.get("job", job("1"))
            redis.stop()
            resource = await server.get("job", job("1"))
    assert Phase(resource.phase) is Phase.QUEUED


@pytest.mark.parametrize("late", [Resource(Phase.RUNNING), Resource(Phase.SUCCEEDED, message="another"), BUSY])
async def test_what_one_host_has_told_is_not_taken_back_by_another(late: Any) -> None:
    gate = Gate()

    def slow(resource_meta: JobMeta) -> Resource:
        gate.block()
        if isinstance(late, ConnectorError):
            raise late
        return cast("Resource", late)

    with running_redis() as redis:
        settings = {"memory": {"kind": "redis", "url": redis.url}}
        fast, _script = scripted(Resource(Phase.SUCCEEDED, outputs={"x": 1}))
        async with (
            running_server(Jobs("job", get=slow), settings=settings) as a,
            running_server(fast, settings=settings) as b,
        ):
            asking = asyncio.create_task(a.get("job", job("1")))
            await gate.reached()
            told = await b.get("job", job("1"))
            gate.open()
            assert await asking == told
            assert await a.get("job", job("1")) == await b.get("job", job("1")) == told


async def test_what_is_remembered_survives_a_restart(tmp_path: Path) -> None:
    settings = {"memory": {"kind": "sqlite", "path": tmp_path / "memory.sqlite"}}
    connector, _script = scripted(Resource(Phase.QUEUED))
    async with running_server(connector, settings=settings) as server:
        await server.get("job", job("1"))
    connector, _script = scripted(BUSY)
    async with running_server(connector, settings=settings) as server:
        assert Phase((await server.get("job", job("1"))).phase) is Phase.QUEUED


async def test_polls_of_other_jobs_go_on_while_one_hangs() -> None:
    begun = threading.Event()
    never = Never()

    async def get(resource_meta: JobMeta) -> Resource:
        if resource_meta.job_id == "hangs":
            begun.set()
            await never.wait()
        return Resource(Phase.RUNNING, message=resource_meta.job_id)

    async with running_server(Jobs("job", get=get)) as server:
        hanging = asyncio.create_task(server.get("job", job("hangs")))
        await happens(begun)
        assert (await server.get("job", job("1"))).message == "1"
        hanging.cancel()
