"""Clients are asked to connect anew from time to time, which is when they look for new replicas."""

import asyncio
import itertools

import pytest

from connector_core.testing.harness import running_server
from tests.benchmarks.instructions import Job
from tests.benchmarks.test_wire_load import RUNNING, get
from tests.benchmarks.wire_load import LoadError, drive

AGES = {"max_connection_age": 0.05}


async def test_a_connection_of_that_age_is_told_to_go() -> None:
    async with running_server(Job(), settings=AGES) as server:
        with pytest.raises(LoadError, match="GOAWAY"):
            await asyncio.to_thread(drive, server.address, get(RUNNING), numbers=itertools.count(), seconds=30)


async def test_a_client_loses_no_call_by_that() -> None:
    async with running_server(Job(), settings=AGES) as server:
        meta = await server.create("job", {"text": "x"})
        resources = await asyncio.gather(*(server.get("job", meta) for _ in range(300)))
        for _ in range(300):
            resources.append(await server.get("job", meta))
    assert len(resources) == 600


async def test_zero_lets_connections_live() -> None:
    async with running_server(Job(), settings={"max_connection_age": 0}) as server:
        done = await asyncio.to_thread(drive, server.address, get(RUNNING), numbers=itertools.count(), calls=500)
    assert done.calls == 500
