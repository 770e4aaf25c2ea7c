"""In a storm of calls that are answered, aborted, cancelled, cut and timed out, each ends as it may, and then all is quiet."""

import asyncio
import logging
import os
import random

import pytest

from tests.fakes import PATIENCE, eventually
from tests.support.bytes_server import calls_alive, serving, waiters
from tests.support.storm import Storm

EACH = {
    "echo OK",
    "echoes OK",
    "count OK",
    "abort NOT_FOUND",
    "fail UNKNOWN",
    "cut CANCELLED",
    "late DEADLINE_EXCEEDED",
    "unread CANCELLED",
    "closed channel CANCELLED",
    "frames",
}
"""What has to come of a storm that is long enough."""


@pytest.fixture(autouse=True)
def _no_tracebacks_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Or their frames would keep calls that are looked for."""
    caplog.set_level(logging.CRITICAL)


async def storm(transport: str, seed: int, calls: int, *, stops: bool) -> Storm:
    """Let a storm over a server, which stops in the middle or afterwards; return it when it is over."""
    storm = Storm(seed)
    before, calls_before = waiters(), calls_alive()
    async with serving(transport, **storm.methods) as server:
        blowing = asyncio.ensure_future(storm.blow(server, calls))
        if stops:
            await eventually(lambda: storm.outcomes.total() > calls // 3 or blowing.done())
            storm.is_stopping = True
            grace = random.Random(seed).choice((None, 0, 0.01, 0.2))
            await asyncio.wait_for(server.server.stop(grace), PATIENCE)
        await asyncio.wait_for(blowing, 6 * PATIENCE)
        await eventually(lambda: storm.begun == storm.ended)
        if transport == "core":
            await eventually(lambda: calls_alive() <= calls_before)
    assert waiters() == before
    return storm


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_passes(transport: str, seed: int) -> None:
    passed = await storm(transport, seed, 500, stops=False)
    assert passed.outcomes.keys() >= EACH


@pytest.mark.parametrize("seed", range(6))
async def test_a_server_stops_in_a_storm(transport: str, seed: int) -> None:
    await storm(transport, seed, 90, stops=True)


@pytest.mark.long
@pytest.mark.parametrize("number", range(40))
async def test_great_storms_pass(transport: str, number: int) -> None:
    seed = int(os.environ.get("SEED", "1")) * 1000 + number
    await storm(transport, seed, 2000, stops=number % 2 == 1)
