"""Jobs as engines drive them, attempt by attempt, with trouble on either side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import ParseDict

from connector_core import Phase
from connector_core.testing import FakePropeller, running_server
from connector_plugin_http.connector import HttpJobConnector

from .conftest import Backend, answers, answers_half, config_of, loses_the_answer


def job() -> TaskTemplate:
    return ParseDict({"type": "http_job", "custom": {"endpoint": "there", "values": {"body": 1}}}, TaskTemplate())


@asynccontextmanager
async def engine_at(backend: Backend, version: tuple[int, int] = (1, 16)) -> AsyncIterator[FakePropeller]:
    connector = HttpJobConnector(config_of(backend, "accepted"))
    async with (
        running_server(connector) as host,
        FakePropeller([host.address], engine_version=version) as engine,
    ):
        yield engine


@pytest.mark.parametrize("version", [(1, 16), (2, 0)])
async def test_a_job_from_start_to_end(accepting: Backend, version: tuple[int, int]) -> None:
    async with engine_at(accepting, version) as engine:
        task = engine.submit(job())
        await engine.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert task.outputs["result"]["echo"] == 1


async def test_a_storm_of_errors_costs_an_engine_no_attempt_of_a_running_job(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    storm: list[Any] = [answers(502), answers(500), answers_half, answers(401), answers(200, {}, b"<html>")] * 4
    async with engine_at(accepting) as engine:
        task = engine.submit(job())
        await engine.step()
        await engine.step()
        accepting.faults += storm
        for _ in storm:
            await engine.step()
        assert task.phases[-1] is Phase.RUNNING
        accepting.answer.jobs["job-0"]["is_over"] = True
        await engine.run_until_settled()
    assert task.phase is Phase.SUCCEEDED
    assert len(accepting.answer.jobs) == 1


async def test_an_answer_that_the_backend_loses_leaves_one_job_that_runs(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    accepting.faults.append(loses_the_answer(accepting))
    async with engine_at(accepting) as engine:
        task = engine.submit(job())
        for _ in range(4):
            await engine.step()
        alive = [name for name, one in accepting.answer.jobs.items() if not one["is_over"]]
        assert (task.phase, len(alive)) == (Phase.RUNNING, 1)
        accepting.answer.jobs[alive[0]]["is_over"] = True
        await engine.run_until_settled()
    assert task.phases[-1] is Phase.SUCCEEDED


async def test_a_job_that_can_be_tried_again_is_another_one_the_next_time(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    async with engine_at(accepting) as engine:
        task = engine.submit(job())
        await engine.step()
        accepting.answer.jobs["job-0"].update(is_over=True, status="Preempted")
        accepting.answer.ends_at_once = True
        await engine.run_until_settled()
    assert len(accepting.answer.jobs) == 2
    assert task.phase is Phase.SUCCEEDED


async def test_a_task_that_is_aborted_cancels_its_job(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    async with engine_at(accepting) as engine:
        task = engine.submit(job())
        await engine.step()
        await engine.step()
        engine.abort(task, times=2)
        await engine.run_until_settled()
    assert accepting.answer.jobs["job-0"]["status"] == "Cancelled"
