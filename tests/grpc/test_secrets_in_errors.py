"""A secret that a plugin puts into an error goes no further than the plugin: not into a status, a job's message, the memory."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector_core import (
    BackendUnavailableError,
    InvalidInputError,
    PermanentError,
    Phase,
    Resource,
    TransientError,
    get_secret,
)
from connector_core.connector import ConnectorBase
from connector_core.testing import running_server
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.faults import SECRET, as_method, failure, read_logs
from tests.support.rpc import details_of

JOB = JobMeta("1").encode()
KINDS = {"on_loop": True, "in_place": True, "in_thread": False}
"""Where plugin code runs, and whether it is async there."""


class StubbornError(TransientError):
    """An author's error whose message cannot be set."""

    @property
    def message(self) -> str:
        return f"refused {SECRET}"

    @message.setter
    def message(self, text: str) -> None: ...


ERRORS: dict[str, Callable[[str], Exception]] = {
    "a plain exception": lambda secret: RuntimeError(f"401 for {secret}"),
    "an error of ours": lambda secret: BackendUnavailableError(f"401 for {secret}"),
    "a permanent one": lambda secret: PermanentError(f"401 for {secret}"),
    "an error code": lambda secret: InvalidInputError("no", error_code=f"of {secret}"),
    "a message that cannot be set": lambda _secret: StubbornError(),
    "a name and a value": lambda _secret: RuntimeError("cannot reach http://x/?api_key=abc123"),
}


def raising(error: Callable[[str], Exception]) -> Callable[[], Any]:
    """Return a plugin's code that asks for the secret and raises with its text."""

    def fault() -> Any:
        raise error(get_secret("password").get_secret_value())

    return fault


def leaks(*texts: object) -> list[str]:
    """Return what still has the secret in it, whole or cut."""
    return [str(text) for text in texts if SECRET[:6] in str(text) or "abc123" in str(text)]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_PASSWORD", SECRET)


@pytest.mark.parametrize("name", ERRORS)
async def test_a_secret_in_an_error_is_in_no_answer_and_in_nothing_that_is_remembered(
    name: str, tmp_path: Path
) -> None:
    fault = raising(ERRORS[name])
    connectors: list[ConnectorBase] = []
    for kind, is_async in KINDS.items():
        method = as_method(fault, is_async=is_async)
        methods = dict.fromkeys(("create", "get", "delete", "get_metrics", "get_logs"), method)
        connectors += [Jobs(kind, **methods), Answers(f"{kind}_do", do=method)]
    settings: dict[str, Any] = {
        "in_place": ["test-in_place connector", "test-in_place_do connector"],
        "permanent_create_failures": "status",
        "memory": {"kind": "sqlite", "path": tmp_path / "jobs.sqlite"},
        "deadlines": {"get": 1},
    }
    async with running_server(*connectors, settings=settings) as host:
        polled = await asyncio.gather(*(host.get(kind, JOB) for kind in KINDS))
        for kind in KINDS:
            calls = [host.create(kind), host.delete(kind, JOB), host.get_metrics(kind, JOB), host.execute(f"{kind}_do")]
            errors = [await failure(call) for call in (*calls, read_logs(host, kind, JOB))]
            assert not leaks(*map(details_of, errors), *(error.trailing_metadata() for error in errors))
            assert "plugin 'test-" in details_of(errors[0])
    assert not leaks(*polled)
    written = await asyncio.to_thread(lambda: [one.read_bytes() for one in tmp_path.iterdir()])
    assert not [data for data in written if SECRET[:6].encode() in data]


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_a_job_that_failed_at_its_create_does_not_tell_the_secret(generation: str) -> None:
    method = as_method(raising(ERRORS["a permanent one"]), is_async=True)
    async with running_server(Jobs(create=method), Answers(do=method)) as first:
        host = first.speaking_v2() if generation == "v2" else first
        for task_type in ("job", "answer"):
            resource = await host.get(task_type, await host.create(task_type))
            assert Phase(resource.phase) is Phase.FAILED
            assert resource.message.endswith("(): 401 for [hidden]")


async def test_nor_does_a_long_text_that_is_cut_within_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_TOKEN", SECRET * 20)

    def get() -> Any:
        raise PermanentError("x" * (16 * 1024 - 200) + get_secret("token").get_secret_value())

    async with running_server(Jobs(get=get)) as host:
        resource = await host.get("job", JOB)
    assert Phase(resource.phase) is Phase.FAILED
    assert not leaks(resource)


async def test_nor_does_why_a_connector_has_not_started() -> None:
    start = as_method(raising(ERRORS["a plain exception"]), is_async=True)
    async with running_server(Jobs(start=start)) as host:
        error = await failure(host.create("job"))
    assert "could not be started: RuntimeError: 401 for [hidden]" in details_of(error)


async def test_nor_do_the_errors_of_single_jobs_of_a_get_many() -> None:
    def get_many(resource_metas: list[JobMeta]) -> list[Any]:
        text = f"401 for {get_secret('password').get_secret_value()}"
        made: dict[str, Any] = {
            "0": RuntimeError(text),
            "1": PermanentError(text),
            "2": Resource(Phase.SUCCEEDED, message="done"),
        }
        return [made[meta.job_id] for meta in resource_metas]

    async with running_server(Jobs(get_many=get_many), settings={"deadlines": {"get": 1}}) as host:
        calls = [host.get("job", JobMeta(str(number)).encode()) for number in range(3)]
        transient, permanent, well = await asyncio.gather(*calls)
    assert transient.message.endswith("RuntimeError: 401 for [hidden]")
    assert permanent.message.endswith("401 for [hidden]")
    assert well.message == "done"


async def test_the_rest_of_a_message_stands_as_its_author_wrote_it() -> None:
    method = as_method(raising(lambda secret: InvalidInputError(f"no token: {secret} is not one")), is_async=True)
    async with running_server(Jobs(delete=method)) as host:
        error = await failure(host.delete("job", JOB))
    assert details_of(error) == "plugin 'test-job connector', delete(): no token: [hidden] is not one"
