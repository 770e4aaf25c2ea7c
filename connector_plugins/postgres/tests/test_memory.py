"""A long result takes a host no more memory than a short one does, but for what is on its way."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest

from .conftest import Bench

PROGRAM = """
import asyncio, json, sys
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import ParseDict
from connector_core import Phase
from connector_core.testing import running_server
from connector_plugin_postgres.config import load_config
from connector_plugin_postgres.connector import PostgresConnector

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def query(host, rows, prefix):
    statement = f"SELECT n, n * 1.5::float8 AS x, md5(n::text) AS t, now() AS at FROM generate_series(1, {rows}) AS n"
    template = ParseDict({"type": "postgres_query", "custom": {"query": statement}}, TaskTemplate())
    meta = await host.create(template, output_prefix=prefix)
    while not Phase((over := await host.get("postgres_query", meta)).phase).is_terminal:
        await asyncio.sleep(0.1)
    assert Phase(over.phase) is Phase.SUCCEEDED, over.message

async def main():
    section, rows, prefix = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    async with running_server(PostgresConnector(load_config(section))) as host:
        await query(host, 2000, prefix + "/small")
        small = peak()
        await query(host, rows, prefix + "/large")
    print(json.dumps([small, peak()]))

asyncio.run(main())
"""


async def measured(bench: Bench, rows: int) -> list[int]:
    """The most memory that a host has had, in bytes: after a short result, and after a long one."""
    arguments = [json.dumps(bench.section()), str(rows), bench.prefix]
    done: Any = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = bench.folder.rglob("large/result/*.parquet")
    assert pq.ParquetFile(file).metadata.num_rows == rows
    found: list[int] = json.loads(done.stdout)
    return found


async def test_a_long_result_passes_through(bench: Bench) -> None:
    small, large = await measured(bench, 200_000)
    # As objects of Python these rows are over 50 MB.
    assert large - small < 30 * 1024**2, (small, large)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_five_million_rows_take_a_host_less_than_200_mb(bench: Bench) -> None:
    small, large = await measured(bench, 5_000_000)
    assert large < 200 * 10**6, (small, large)
