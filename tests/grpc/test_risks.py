"""Connectors that callers can misuse: listed, polled and deleted, but not created, until the operator allows it."""

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from connector_core import Phase
from connector_core.plugins import PluginLoadResult, declared_risks, load_plugins
from connector_core.settings import Settings
from connector_core.tables import read
from connector_core.testing import running_server
from tests.fakes import Answers, JobMeta, Jobs
from tests.support.distributions import GOOD, SitePackages
from tests.support.rpc import refusal

SIGNED = {"signing": {"keys": ["k" * 40]}}
ALLOWED = {"allow_risks": ["test-start connector", "test-watch connector"]}


class Caller(Answers):
    """A sync connector with a risk."""

    risk = "calls any URL that a caller names"


class Starter(Jobs):
    """An async connector whose create bears a risk."""

    risk = "runs any code that a caller sends"


class Watcher(Jobs):
    """An async connector whose resource metas are enough for its risk."""

    risk = "imports any module that a caller names"
    risk_in_get = True


async def test_creates_end_failed_with_the_setting_that_would_allow_them() -> None:
    called: list[str] = []

    async def create(inputs: dict[str, Any]) -> JobMeta:
        called.append("create")
        return JobMeta("1")

    async with running_server(Starter("start", create=create)) as host:
        meta = await host.create("start")
        answer = await host.get("start", meta)
    assert answer.phase == Phase.FAILED.value
    assert "runs any code that a caller sends; the operator can allow that: allow_risks = [" in answer.message
    assert answer.agent_error.code == "RiskNotAllowed"
    assert called == []


async def test_a_sync_task_is_refused_with_the_setting_whichever_way_it_is_called() -> None:
    async with running_server(Caller("call")) as host:
        as_a_job = await host.get("call", await host.create("call"))
        at_once = await said_of(host.execute("call"))
    assert as_a_job.phase == Phase.FAILED.value
    for message in (as_a_job.message, at_once):
        assert 'allow_risks = ["test-call connector"]' in message


async def said_of(call: Awaitable[Any]) -> str:
    """Return the message of a failure, be it a job that is FAILED or a status."""
    try:
        return str((await call).message)
    except grpc.aio.AioRpcError as error:
        return error.details() or ""


async def test_it_stays_listed() -> None:
    async with running_server(Caller("call"), Starter("start")) as host:
        listed = {one for agent in await host.list_connectors() for one in agent.supported_task_types}
    assert listed == {"call", "start"}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (["test-start connector", "test-watch connector"], set()),
        (["test-start connector/start connector"], {"watch"}),
        (["test-watch connector"], {"start"}),
    ],
    ids=["both", "one by its connector", "one by its plugin"],
)
async def test_what_the_operator_names_is_served(allowed: list[str], refused: set[str]) -> None:
    async with running_server(Starter("start"), Watcher("watch"), settings={"allow_risks": allowed}) as host:
        start = await host.get("start", await host.create("start"))
        watch = await host.get("watch", await host.create("watch"))
    phases = {"start": Phase(start.phase), "watch": Phase(watch.phase)}
    assert phases == {name: Phase.FAILED if name in refused else Phase.SUCCEEDED for name in phases}


async def test_a_job_that_runs_goes_on_and_can_be_deleted() -> None:
    deleted: list[str] = []

    async def delete(resource_meta: JobMeta) -> None:
        deleted.append(resource_meta.job_id)

    async with running_server(Starter("start", delete=delete)) as host:
        assert (await host.get("start", JobMeta("7").encode())).phase == Phase.SUCCEEDED.value
        await host.delete("start", JobMeta("7").encode())
    assert deleted == ["7"]


async def test_where_a_resource_meta_is_enough_unsigned_ones_are_not_polled_but_ridden_out() -> None:
    polled: list[str] = []
    deleted: list[str] = []

    async def get(resource_meta: JobMeta) -> None:
        polled.append(resource_meta.job_id)

    async def delete(resource_meta: JobMeta) -> None:
        deleted.append(resource_meta.job_id)

    async with running_server(Watcher("watch", get=get, delete=delete)) as host:
        answer = await host.get("watch", JobMeta("7").encode())
        await host.delete("watch", JobMeta("7").encode())
    assert Phase(answer.phase) in {Phase.RUNNING, Phase.INITIALIZING}
    assert 'allow_risks = ["test-watch connector"]' in answer.message
    assert (polled, deleted) == ([], ["7"])


async def test_signed_ones_are_polled_while_creates_are_refused() -> None:
    async with running_server(Watcher("watch"), settings={**SIGNED, **ALLOWED}) as host:
        meta = await host.create("watch", {"id": "9"})
    async with running_server(Watcher("watch"), settings=SIGNED) as host:
        assert (await host.get("watch", meta)).phase == Phase.SUCCEEDED.value
        assert (await host.get("watch", await host.create("watch"))).phase == Phase.FAILED.value
        error = await refusal(host.async_stub.GetTask(_forged()))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def _forged() -> Any:
    from flyteidl.admin import agent_pb2

    category = agent_pb2.TaskCategory(name="watch")
    return agent_pb2.GetTaskRequest(task_category=category, resource_meta=JobMeta("1").encode())


async def test_jobs_survive_an_upgrade_the_setting_and_the_way_back() -> None:
    """A host of before (which is one that allows all), one that does not, and the former again, with tasks in flight."""

    def connectors() -> tuple[Watcher, Starter]:
        return Watcher("watch"), Starter("start")

    async with running_server(*connectors(), settings=ALLOWED) as before:
        watched, started = await before.create("watch", {"id": "w"}), await before.create("start", {"id": "s"})
    async with running_server(*connectors()) as upgraded:
        assert Phase((await upgraded.get("watch", watched)).phase) in {Phase.RUNNING, Phase.INITIALIZING}
        assert (await upgraded.get("start", started)).phase == Phase.SUCCEEDED.value
        refused = await upgraded.create("start")
    async with running_server(*connectors(), settings=ALLOWED) as back:
        assert (await back.get("watch", watched)).phase == Phase.SUCCEEDED.value
        assert (await back.get("start", started)).phase == Phase.SUCCEEDED.value
        assert (await back.get("start", refused)).phase == Phase.FAILED.value  # a last word stands


RISKY = (
    GOOD
    + """
    class Watcher(Job):
        risk = "imports any module that a caller names"
        risk_in_get = True

    @hookimpl
    def register_connectors(): return [Watcher("watch")]
    """
)


@pytest.fixture
def risky(site: SitePackages) -> PluginLoadResult:
    site.add("risky", RISKY)
    return load_plugins(site.sources())


def test_risks_are_said_with_what_follows_and_how_to_take_them(risky: PluginLoadResult) -> None:
    (risk,) = declared_risks(risky, Settings())
    assert "of plugin 'risky' imports any module that a caller names; everyone who reaches the gRPC port" in risk
    assert "so its creates fail, and polls of unsigned resource metas get the last known phase" in risk
    assert risk.endswith('To take the risk: allow_risks = ["risky"]')
    (taken,) = declared_risks(risky, Settings(allow_risks=("risky",)))
    assert taken.endswith("(allowed by allow_risks)")


def test_a_risk_that_is_not_a_text_is_refused(site: SitePackages) -> None:
    site.add("odd", RISKY.replace('risk = "imports any module that a caller names"', "risk = True"))
    (failed,) = load_plugins(site.sources()).failed
    assert "risk is True; it is a text such as 'calls any URL that a caller names'" in failed.reason


def test_names_that_nothing_has_are_warned_of(site: SitePackages) -> None:
    from connector_core.plugins import load_discovered

    site.add("risky", RISKY)
    settings = read(Settings, {"allow_risks": ["risky", "rissky", "risky/none"]})
    first, second = load_discovered(site.found(), settings).warnings
    assert first == "allow_risks rissky: unknown plugin 'rissky'; did you mean 'risky'?"
    assert second.startswith("allow_risks \"risky/none\": plugin 'risky' has no connector 'none'")
