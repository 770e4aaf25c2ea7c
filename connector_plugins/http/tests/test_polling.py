"""Asking about many jobs: what lists say counts, and what is said of a list is not said of its jobs."""

import logging
from typing import Any

import pytest

from connector_core import ConnectorError, Phase, RateLimitedError, Resource
from connector_plugin_http.connector import HttpJobConnector
from connector_plugin_http.jobs import HttpMeta

from .conftest import Backend, Received, answers, config_of

AIRFLOW: dict[str, Any] = {"path": "/api/v1", "basic": {"user": "flyte", "secret": "airflow_password"}}


def started(backend: Backend, number: int, state: str = "running") -> list[HttpMeta]:
    """Put runs into the fake Airflow, the last one started last."""
    for place in range(number):
        run = {"dag_id": "load", "dag_run_id": f"run {place}", "state": state, "conf": {}}
        backend.answer.runs[("load", f"run {place}")] = run
    return [HttpMeta("there", "airflow", f"run {place}", {"dag": "load"}) for place in range(number)]


async def polled(backend: Backend, metas: list[HttpMeta]) -> list[Resource | Exception]:
    connector = HttpJobConnector(config_of(backend, "airflow", **AIRFLOW))
    try:
        return list(await connector.get_many(metas))
    finally:
        await connector.close()


def phases(found: list[Resource | Exception]) -> list[Phase | type]:
    return [one.phase if isinstance(one, Resource) else type(one) for one in found]


async def test_jobs_that_are_over_are_not_listed_and_asked_about_alone(airflow: Backend) -> None:
    metas = started(airflow, 5)
    airflow.answer.runs[("load", "run 3")]["state"] = "success"
    found = phases(await polled(airflow, metas))
    assert found == [Phase.RUNNING] * 3 + [Phase.SUCCEEDED, Phase.RUNNING]
    assert [one.path for one in airflow.received] == [
        "/api/v1/dags/~/dagRuns/list",
        "/api/v1/dags/load/dagRuns/run%203",
    ]


async def test_a_single_job_is_not_worth_a_list(airflow: Backend) -> None:
    assert phases(await polled(airflow, started(airflow, 1))) == [Phase.RUNNING]
    assert [one.path for one in airflow.received] == ["/api/v1/dags/load/dagRuns/run%200"]


async def test_a_list_is_read_no_further_than_asking_about_each_would_cost(airflow: Backend) -> None:
    oldest = started(airflow, 2000)[:3]
    assert phases(await polled(airflow, oldest)) == [Phase.RUNNING] * 3
    assert len(airflow.received) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_a_backend_that_refuses_to_list_is_asked_about_each_job(
    airflow: Backend, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    metas = started(airflow, 3)
    airflow.faults.append(answers(status))
    with caplog.at_level(logging.WARNING):
        assert phases(await polled(airflow, metas)) == [Phase.RUNNING] * 3
    assert "jobs cannot be listed; asking about each" in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "headers"), [(500, None, {}), (429, None, {"Retry-After": "9"}), (200, b"<html>", {})]
)
async def test_a_list_that_fails_for_now_fails_no_job(
    airflow: Backend, status: int, body: Any, headers: dict[str, str]
) -> None:
    metas = started(airflow, 3)
    airflow.faults.append(answers(status, headers, body))
    found = await polled(airflow, metas)
    assert all(isinstance(one, ConnectorError) and one.retryable for one in found)
    assert status != 429 or all(isinstance(one, RateLimitedError) and one.retry_after == 9 for one in found)
    assert len(airflow.received) == 1


async def test_each_list_is_asked_for_with_its_own_values(airflow: Backend) -> None:
    metas = started(airflow, 2)
    for dag in ("first", "second"):
        for place in range(2):
            run: dict[str, Any] = {"dag_id": dag, "dag_run_id": f"run {place}", "state": "queued", "conf": {}}
            airflow.answer.runs[(dag, f"run {place}")] = run
            metas.append(HttpMeta("there", "airflow", f"run {place}", {"dag": dag}))
    assert phases(await polled(airflow, metas)) == [Phase.RUNNING] * 2 + [Phase.QUEUED] * 4
    assert sorted(one.json["dag_ids"][0] for one in airflow.received) == ["first", "load", "second"]


async def test_a_job_of_an_endpoint_that_is_gone_does_not_keep_the_others_from_being_asked_about(
    airflow: Backend,
) -> None:
    metas = [HttpMeta("gone", "airflow", "x", {"dag": "load"}), *started(airflow, 2)]
    found = await polled(airflow, metas)
    assert isinstance(found[0], ConnectorError)
    assert phases(found[1:]) == [Phase.RUNNING] * 2


def test_the_fake_lists_as_airflow_does(airflow: Backend) -> None:
    started(airflow, 150)
    body = b'{"dag_ids": ["load"], "states": ["running"], "page_offset": 100, "page_limit": 100}'
    headers = {"authorization": "Basic Zmx5dGU6c2VzYW1l"}
    _, _, answer = airflow.answer(Received("POST", "/api/v1/dags/~/dagRuns/list", headers, body))
    assert len(answer["dag_runs"]) == 50
