"""The recipes that ship, each through create, polls, cancel and repeat, over real gRPC and a backend that speaks the API."""

import json
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import ParseDict

from connector_core import Phase, Resource
from connector_core.literals import to_python_map
from connector_core.testing import RunningServer, running_server
from connector_plugin_http.connector import HttpJobConnector
from connector_plugin_http.jobs import HttpMeta
from connector_plugin_http.recipes import SHIPPED, shipped

from .conftest import Backend, Received, config_of

AIRFLOW: dict[str, Any] = {"path": "/api/v1", "basic": {"user": "flyte", "secret": "airflow_password"}}
DBT: dict[str, Any] = {
    "path": "/api/v2/accounts/7",
    "headers": {"Authorization": {"secret": "dbt_token", "prefix": "Token "}},
}


def job(values: dict[str, Any] | None = None, **more: Any) -> TaskTemplate:
    custom = {"endpoint": "there", "values": values or {}, **more}
    return ParseDict({"type": "http_job", "custom": custom}, TaskTemplate())


async def phase(host: RunningServer, meta: bytes) -> tuple[Phase, str]:
    resource = await host.get("http_job", meta)
    return Phase(resource.phase), resource.message


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_that_ships_can_be_read_and_cancels(name: str) -> None:
    recipe = shipped(name)
    assert recipe.cancel is not None
    assert {Phase[phase] for phase in recipe.phases.values()} >= {Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED}


async def test_a_service_that_accepts_and_tells_where_to_ask(accepting: Backend) -> None:
    accepting.answer.ends_at_once = False
    async with running_server(HttpJobConnector(config_of(accepting, "accepted", path="/jobs"))) as host:
        meta = await host.create(job({"body": {"n": 3}}))
        failed, why = await phase(host, meta)
        assert (failed, "'http://127.0.0.1" in why, "not below" in why) == (Phase.FAILED, True, True)
    async with running_server(HttpJobConnector(config_of(accepting, "accepted"))) as host:
        meta = await host.create(job({"body": {"n": 3}}), output_prefix="s3://b/x/0")
        assert await host.create(job({"body": {"n": 3}}), output_prefix="s3://b/x/0") == meta
        assert await phase(host, meta) == (Phase.RUNNING, "Running")
        accepting.answer.jobs["job-1"]["is_over"] = True
        over = await host.get("http_job", meta)
        assert Phase(over.phase) is Phase.SUCCEEDED
        assert to_python_map(over.outputs) == {"result": {"status": "Succeeded", "echo": {"n": 3}}}
        second = await host.create(job({"body": [1, "two"]}))
        await host.delete("http_job", second)
        await host.delete("http_job", second)
        assert (await phase(host, second))[0] is Phase.ABORTED


async def test_airflow(airflow: Backend) -> None:
    async with running_server(HttpJobConnector(config_of(airflow, "airflow", **AIRFLOW))) as host:
        values = {"dag": "load", "conf": {"day": "2024-01-01", "n": 3}}
        meta = await host.create(job(values), {"log_task": "load"}, output_prefix="s3://b/x/0")
        ((_, run_id),) = airflow.answer.runs
        run = airflow.answer.runs[("load", run_id)]
        assert run["conf"] == {"day": "2024-01-01", "n": 3}
        assert (await phase(host, meta))[0] is Phase.QUEUED
        run.update(state="running")
        airflow.answer.log = b"first\nsecond\npart"
        assert (await phase(host, meta))[0] is Phase.RUNNING
        lines = [message.body.results async for message in host.get_logs("http_job", meta, lines=5)]
        assert [list(page) for page in lines if page] == [["first", "second"]]
        run.update(state="success", note="all of it")
        over = await host.get("http_job", meta)
        assert (Phase(over.phase), over.message) == (Phase.SUCCEEDED, "success: all of it")
        assert to_python_map(over.outputs) == {"run_id": run_id, "conf": {"day": "2024-01-01", "n": 3}}

        failing = await host.create(job({"dag": "load"}))
        await host.delete("http_job", failing)
        assert (await phase(host, failing))[0] is Phase.FAILED


async def test_airflow_3_takes_a_run_without_a_logical_date(airflow: Backend) -> None:
    async with running_server(
        HttpJobConnector(config_of(airflow, "airflow3", **{**AIRFLOW, "path": "/api/v2"}))
    ) as host:
        await host.create(job({"dag": "load"}))
    (sent,) = airflow.requests("POST", "/api/v2/dags/load/dagRuns")
    assert sent.json["logical_date"] is None


async def test_databricks(databricks: Backend) -> None:
    api = databricks.answer
    async with running_server(HttpJobConnector(config_of(databricks, "databricks"))) as host:
        values = {"run_name": "nightly", "tasks": [{"task_key": "t", "timeout_seconds": 60}]}
        meta = await host.create(job(values), output_prefix="s3://b/x/0")
        ((run_id, run),) = api.runs.items()
        assert run["tasks"] == [{"task_key": "t", "timeout_seconds": 60}]
        assert (await phase(host, meta))[0] is Phase.INITIALIZING
        run["state"] = {"life_cycle_state": "RUNNING", "state_message": "In run"}
        running = await host.get("http_job", meta)
        assert (Phase(running.phase), running.message) == (Phase.RUNNING, "RUNNING: In run")
        assert [link.uri for link in running.log_links] == [f"https://dbc.example.org/#job/{run_id}"]
        api.end(run_id, "FAILED", "Notebook exited with 3")
        failed = await host.get("http_job", meta)
        assert (Phase(failed.phase), failed.message) == (Phase.FAILED, "FAILED: Notebook exited with 3")
        second = await host.create(job(values))
        await host.delete("http_job", second)
        assert (await phase(host, second))[0] is Phase.ABORTED


async def test_dbt_whose_jobs_of_a_key_are_found_before_they_are_started(dbt: Backend) -> None:
    api = dbt.answer
    config = config_of(dbt, "dbt", **DBT)
    async with running_server(HttpJobConnector(config)) as host:
        meta = await host.create(job({"job": 5, "git_branch": "main"}), output_prefix="s3://b/x/0")
    async with running_server(HttpJobConnector(config)) as host:  # another host, which remembers nothing
        assert await host.create(job({"job": 5, "git_branch": "main"}), output_prefix="s3://b/x/0") == meta
        (run,) = api.runs.values()
        assert run["sent"]["git_branch"] == "main"
        assert "git_sha" not in run["sent"]
        assert (await phase(host, meta))[0] is Phase.QUEUED
        run["run_steps"] = [{"logs": "step one\n"}, {"logs": None}, {"logs": "step two\n"}]
        run.update(status=20, status_message="Model orders failed")
        over = await host.get("http_job", meta)
        assert (Phase(over.phase), over.message) == (Phase.FAILED, "20: Model orders failed")
        assert [link.uri for link in over.log_links] == [run["href"]]
        lines = [line async for message in host.get_logs("http_job", meta, lines=0) for line in message.body.results]
        assert lines == ["step one", "", "step two"]
        second = await host.create(job({"job": 6}))
        await host.delete("http_job", second)
        assert (await phase(host, second))[0] is Phase.ABORTED


THOUSAND: dict[str, Any] = {
    "airflow": ("/api/v1/dags/load/dagRuns", AIRFLOW, {"dag": "load"}, 20),
    "dbt": ("/api/v2/accounts/7/jobs/5/run/", DBT, {"job": 5}, 20),
    # Its list has 25 runs a page, and not more.
    "databricks": ("/api/2.1/jobs/runs/submit", {}, {"tasks": []}, 40),
}


@pytest.mark.parametrize("recipe", THOUSAND)
async def test_a_thousand_running_jobs_are_polled_with_few_requests(
    recipe: str, airflow: Backend, dbt: Backend, databricks: Backend
) -> None:
    backend = {"airflow": airflow, "dbt": dbt, "databricks": databricks}[recipe]
    path, endpoint, values, most = THOUSAND[recipe]
    metas = [HttpMeta("there", recipe, started(backend, path, number), values) for number in range(1000)]
    # So long that this machine's speed does not matter.
    connector = HttpJobConnector(config_of(backend, recipe, min_poll_interval=120, **endpoint))
    for begin in (0, 500):  # as many as a host asks about at once
        answers = await connector.get_many(metas[begin : begin + 500])
        phases = {answer.phase if isinstance(answer, Resource) else answer for answer in answers}
        assert phases <= {Phase.QUEUED, Phase.INITIALIZING}
    await connector.close()
    assert len(backend.received) <= most


def started(backend: Backend, path: str, number: int) -> str | int:
    """Start a job without a request that would be counted; return its id."""
    key = f"key {number}"
    body = {"dag_run_id": key, "idempotency_token": key, "cause": key, "tasks": []}
    authorization = "Basic Zmx5dGU6c2VzYW1l" if "dags" in path else "Token sesame"
    sent = Received("POST", path, {"authorization": authorization}, json.dumps(body).encode())
    _, _, answer = backend.answer(sent)
    found: str | int = answer.get("dag_run_id") or answer.get("run_id") or answer["data"]["id"]
    return found
