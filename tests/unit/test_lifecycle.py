"""Connectors start with the server, again and again where that fails, and close with it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.errors import (
    BackendUnavailableError,
    ConnectorNotStartedError,
    DeadlineExceededError,
    PluginCallError,
)
from connector_core.invocation import Invoker
from connector_core.invocation.offers import JobOffer, TaskOffer
from connector_core.lifecycle import Lifecycle
from connector_core.metrics import Metrics
from tests.fakes import PATIENCE, Gate, Jobs, Never, eventually, happens
from tests.support.places import described, limits, local_invoker

TASK = TaskOffer(agent_pb2.CreateTaskRequest(), LiteralMap())
SOON = (0.001, 0.002)
NEVER = (3600.0, 3600.0)


@pytest_asyncio.fixture
async def metrics() -> Metrics:
    return Metrics()


@pytest_asyncio.fixture
async def invoker(metrics: Metrics) -> AsyncIterator[Invoker]:
    invoker = local_invoker(metrics, limits(workers=2))
    yield invoker
    await invoker.close(PATIENCE)


MakeLifecycle = Callable[..., Lifecycle]


@pytest_asyncio.fixture
async def make_lifecycle(invoker: Invoker, metrics: Metrics) -> AsyncIterator[MakeLifecycle]:
    made = []

    def make(timeout: float = PATIENCE, backoff: tuple[float, float] = NEVER) -> Lifecycle:
        made.append(Lifecycle(invoker, metrics, timeout=timeout, backoff=backoff))
        return made[-1]

    yield make
    for lifecycle in made:
        await lifecycle.close()


def entry(plugin: str = "warehouse", **methods: Any) -> ConnectorDescription:
    return described(Jobs(**methods), PluginIdentity(plugin))


def started(metrics: Metrics) -> float | None:
    labels = {"plugin": "warehouse", "connector": "job connector"}
    return metrics.registry.get_sample_value("flyte_connector_connector_started", labels)


class Client:
    """Fails to connect as often as it is told, and keeps a record."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = list[str]()
        self.threads = set[str]()
        self.has_started = threading.Event()

    async def start(self) -> None:
        self.calls.append("start")
        self.threads.add(threading.current_thread().name)
        if self.failures:
            self.failures -= 1
            raise BackendUnavailableError("no route to the warehouse")
        self.has_started.set()

    async def close(self) -> None:
        self.calls.append("close")
        self.threads.add(threading.current_thread().name)

    async def delete(self) -> None:
        self.threads.add(threading.current_thread().name)

    @property
    def methods(self) -> dict[str, Any]:
        return {"start": self.start, "close": self.close, "delete": self.delete}


async def test_a_connector_is_started_and_closed_where_its_calls_run(
    make_lifecycle: MakeLifecycle, invoker: Invoker, metrics: Metrics
) -> None:
    client, lifecycle = Client(), make_lifecycle()
    connector = entry(**client.methods)
    assert await lifecycle.start([connector]) == {}
    assert started(metrics) == 1
    await invoker.invoke(connector, "delete", JobOffer(b""))
    await lifecycle.close()
    assert client.calls == ["start", "close"]
    assert client.threads == {"plugin warehouse"}


async def test_a_connector_without_start_counts_as_started(make_lifecycle: MakeLifecycle, metrics: Metrics) -> None:
    assert await make_lifecycle().start([entry()]) == {}
    assert started(metrics) == 1


async def test_blocking_start_and_close_run_in_the_connectors_threads(make_lifecycle: MakeLifecycle) -> None:
    threads = list[str]()

    def note() -> None:
        threads.append(threading.current_thread().name)

    lifecycle = make_lifecycle()
    await lifecycle.start([entry(start=note, close=note)])
    await lifecycle.close()
    assert len(threads) == 2
    assert all("'job connector'" in name for name in threads)


async def test_all_connectors_start_at_once(make_lifecycle: MakeLifecycle) -> None:
    together = threading.Barrier(3)
    connectors = [entry(plugin, start=lambda: _meet(together)) for plugin in ("a", "b", "c")]
    assert await make_lifecycle().start(connectors) == {}


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait(PATIENCE)


async def test_one_that_fails_is_returned_with_its_reason_and_its_calls_are_refused(
    make_lifecycle: MakeLifecycle, invoker: Invoker, metrics: Metrics
) -> None:
    client = Client(failures=1)
    bad, good = entry(**client.methods), entry("lake", name="lake")
    failed = await make_lifecycle().start([bad, good])
    assert {connector.plugin.name: str(error) for connector, error in failed.items()} == {
        "warehouse": "no route to the warehouse"
    }
    assert started(metrics) == 0
    with pytest.raises(
        ConnectorNotStartedError, match=r"'job connector' could not be started: no route to the warehouse"
    ):
        await invoker.invoke(bad, "delete", JobOffer(b""))
    await invoker.invoke(good, "create", TASK)


async def test_it_is_started_again_until_it_succeeds_and_then_serves(
    make_lifecycle: MakeLifecycle, invoker: Invoker, metrics: Metrics
) -> None:
    client = Client(failures=3)
    connector = entry(**client.methods)
    lifecycle = make_lifecycle(backoff=SOON)
    await lifecycle.start([connector])
    await happens(client.has_started)
    await eventually(lambda: started(metrics) == 1)
    await invoker.invoke(connector, "delete", JobOffer(b""))
    await lifecycle.close()
    assert client.calls == ["start"] * 4 + ["close"]


@pytest.mark.parametrize("error", [ValueError("bad config"), SystemExit(1)], ids=repr)
async def test_whatever_start_raises_stops_nobody_else(make_lifecycle: MakeLifecycle, error: BaseException) -> None:
    def fail() -> None:
        raise error

    bad, good = entry(start=fail), entry("lake")
    failed = await make_lifecycle().start([bad, good])
    assert list(failed) == [bad]
    assert isinstance(failed[bad], PluginCallError)


async def test_a_start_that_hangs_is_given_up_at_its_time(make_lifecycle: MakeLifecycle, invoker: Invoker) -> None:
    never = Never()
    connector = entry(start=never.wait)
    failed = await make_lifecycle(timeout=0.01).start([connector])
    assert isinstance(failed[connector], DeadlineExceededError)
    with pytest.raises(ConnectorNotStartedError, match="deadline"):
        await invoker.invoke(connector, "delete", JobOffer(b""))


async def test_what_never_started_is_not_closed(make_lifecycle: MakeLifecycle) -> None:
    client, lifecycle = Client(failures=100), make_lifecycle(backoff=SOON)
    await lifecycle.start([entry(**client.methods)])
    await lifecycle.close()
    assert set(client.calls) == {"start"}


async def test_after_close_nothing_is_started_again(make_lifecycle: MakeLifecycle) -> None:
    client, gate = Client(), Gate()

    def start() -> None:
        gate.block()
        raise BackendUnavailableError("away")

    lifecycle = make_lifecycle(backoff=SOON)
    starting = asyncio.create_task(lifecycle.start([entry(start=start, close=client.close)]))
    await gate.reached()
    gate.open()
    await starting
    await lifecycle.close()
    assert client.calls == []


async def test_a_close_that_fails_or_hangs_stops_no_other(
    make_lifecycle: MakeLifecycle, caplog: pytest.LogCaptureFixture
) -> None:
    never, client = Never(), Client()

    async def fail() -> None:
        raise RuntimeError("the socket was gone")

    lifecycle = make_lifecycle(timeout=0.05)
    await lifecycle.start([entry("a", close=fail), entry("b", close=never.wait), entry("c", close=client.close)])
    await lifecycle.close()
    assert client.calls == ["close"]
    assert (
        "connector failed to close: plugin a, connector job connector: RuntimeError: the socket was gone" in caplog.text
    )
    assert "connector failed to close: plugin b, connector job connector" in caplog.text


async def test_a_connector_is_closed_once_though_close_is_called_again_meanwhile(make_lifecycle: MakeLifecycle) -> None:
    """As a second signal does, which ends the grace of the first."""
    client, gate = Client(), Gate()

    def close() -> None:
        client.calls.append("close")
        gate.block()

    lifecycle = make_lifecycle()
    await lifecycle.start([entry(close=close)])
    closing = asyncio.create_task(lifecycle.close())
    await gate.reached()
    again = asyncio.create_task(lifecycle.close())
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(closing, again)
    assert client.calls == ["close"]


async def test_after_the_death_of_its_process_a_connector_is_started_once_and_closed_once(
    make_lifecycle: MakeLifecycle, metrics: Metrics
) -> None:
    client, lifecycle = Client(), make_lifecycle()
    connector = entry(**client.methods)
    await lifecycle.start([connector])
    await lifecycle.start_anew([connector])
    assert started(metrics) == 1
    await lifecycle.close()
    assert client.calls == ["start", "start", "close"]


async def test_a_retry_that_waits_gives_way_to_the_start_in_a_new_process(make_lifecycle: MakeLifecycle) -> None:
    client, lifecycle = Client(failures=1), make_lifecycle()
    connector = entry(**client.methods)
    assert await lifecycle.start([connector]) == {connector: lifecycle.not_started[connector]}
    await lifecycle.start_anew([connector])
    assert lifecycle.not_started == {}
    await lifecycle.close()
    assert client.calls == ["start", "start", "close"]


async def test_what_was_started_anew_meanwhile_is_not_tried_again(make_lifecycle: MakeLifecycle) -> None:
    client, lifecycle, slow = Client(failures=1), make_lifecycle(backoff=SOON), asyncio.Event()
    waits = threading.Event()

    async def start() -> None:
        waits.set()
        while not slow.is_set():  # noqa: ASYNC110 - the event is another loop's
            await asyncio.sleep(0.002)

    connector, other = entry(**client.methods), described(Jobs("slow", start=start), PluginIdentity("slow"))
    starting = asyncio.create_task(lifecycle.start([connector, other]))
    await eventually(lambda: connector in lifecycle.not_started and waits.is_set())
    await lifecycle.start_anew([connector])
    slow.set()
    await starting
    # By the time that a later one has been tried again twice, a retry of this one would have come.
    witness = Client(failures=2)
    await lifecycle.start([described(Jobs("witness", **witness.methods), PluginIdentity("witness"))])
    await eventually(lambda: witness.calls.count("start") == 3)
    await lifecycle.close()
    assert client.calls == ["start", "start", "close"]
