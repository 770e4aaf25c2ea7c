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


@pytest.mark.parametrize("seconds", ["long", True, -1, float("inf"), LONGEST_SECONDS + 1, None])
async def test_a_nap_of_no_sensible_length_is_refused(seconds: object) -> None:
    with pytest.raises(InvalidInputError, match="seconds"):
        await SleepConnector().create({"seconds": seconds})
