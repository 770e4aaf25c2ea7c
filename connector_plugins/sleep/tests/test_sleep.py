import pytest
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core import InvalidInputError, Phase, ResourceMeta
from connector_core.literals import to_python_map
from connector_core.testing import ConnectorContract, running_server
from connector_plugin_sleep.connector import LONGEST_SECONDS, SleepConnector, SleepMeta


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class TestContract(ConnectorContract):
    inputs = {"seconds": 0.01}

    def make_connector(self) -> SleepConnector:
        return SleepConnector()

    def unknown_job(self) -> ResourceMeta:
        return SleepMeta(ends_at=0.0, seconds=0.0)


async def test_a_nap_ends_when_its_time_has_come() -> None:
    clock = Clock()
    async with running_server(SleepConnector(now=clock)) as host:
        nap = await host.create("sleep", {"seconds": 60})
        clock.seconds += 59
        assert Phase((await host.get("sleep", nap)).phase) is Phase.RUNNING
        clock.seconds += 1
        over = await host.get("sleep", nap)
    assert Phase(over.phase) is Phase.SUCCEEDED
    assert to_python_map(over.outputs) == {"slept": 60.0}
    assert isinstance(over.outputs, LiteralMap)


async def test_a_nap_that_is_deleted_is_aborted_and_the_others_go_on() -> None:
    clock = Clock()
    async with running_server(SleepConnector(now=clock)) as host:
        deleted, other = [await host.create("sleep", {"seconds": 60}) for _ in range(2)]
        await host.delete("sleep", deleted)
        await host.delete("sleep", deleted)
        assert Phase((await host.get("sleep", deleted)).phase) is Phase.ABORTED
        assert Phase((await host.get("sleep", other)).phase) is Phase.RUNNING
        clock.seconds += 61
        assert Phase((await host.get("sleep", deleted)).phase) is Phase.ABORTED
        assert Phase((await host.get("sleep", other)).phase) is Phase.SUCCEEDED


async def test_a_nap_that_is_over_stays_so_when_it_is_deleted() -> None:
    clock = Clock()
    connector = SleepConnector(now=clock)
    nap = await connector.create({"seconds": 1})
    clock.seconds += 1
    await connector.delete(nap)
    assert (await connector.get(nap)).phase is Phase.SUCCEEDED


async def test_deletes_are_remembered_up_to_a_bound_and_the_oldest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connector_plugin_sleep.connector.REMEMBERED_DELETES", 2)
    connector = SleepConnector(now=Clock())
    naps = [await connector.create({"seconds": 60}) for _ in range(3)]
    for nap in naps:
        await connector.delete(nap)
    assert [(await connector.get(nap)).phase for nap in naps] == [Phase.RUNNING, Phase.ABORTED, Phase.ABORTED]


async def test_another_process_knows_a_nap_but_not_its_delete() -> None:
    clock = Clock()
    here, elsewhere = SleepConnector(now=clock), SleepConnector(now=clock)
    nap = await here.create({"seconds": 60})
    await here.delete(nap)
    assert (await elsewhere.get(nap)).phase is Phase.RUNNING


async def test_a_handle_of_an_older_version_is_a_nap_that_can_be_deleted() -> None:
    connector = SleepConnector(now=Clock())
    older = SleepMeta.decode(b'{"ends_at": 2000.0, "seconds": 60.0}')
    assert (await connector.get(older)).phase is Phase.RUNNING
    await connector.delete(older)
    assert (await connector.get(older)).phase is Phase.ABORTED


@pytest.mark.parametrize("seconds", ["long", True, -1, float("inf"), LONGEST_SECONDS + 1, None])
async def test_a_nap_of_no_sensible_length_is_refused(seconds: object) -> None:
    with pytest.raises(InvalidInputError, match="seconds"):
        await SleepConnector().create({"seconds": seconds})
