"""Results in an object store: a moto server on loopback."""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from connector_core import Phase
from connector_core.literals import StructuredDataset, to_python_map
from connector_core.testing import running_server

from .conftest import TABLE, Bench, outputs, run, task

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed")

BUCKET = "flyte-data"
LONG_TEXT = "(SELECT string_agg(md5((10 * n + i)::text), '') FROM generate_series(1, 8) AS i) AS t"
"""A column that makes 50,000 rows longer than one part of an upload."""


class Store:
    """A bucket, and settings that reach it."""

    def __init__(self, endpoint: str, client: Any) -> None:
        self.client = client
        secrets = {"key": {"secret": "key_id", "group": "store"}, "secret": {"secret": "secret_key", "group": "store"}}
        options = {"endpoint_url": endpoint, **secrets, "client_kwargs": {"region_name": "us-east-1"}}
        self.results = {"allowed_uris": [f"s3://{BUCKET}/team/"], "storage_options": {"s3": options}}

    @property
    def names(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("_FSEC_STORE_KEY_ID", "id")
    monkeypatch.setenv("_FSEC_STORE_SECRET_KEY", "key")
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="id", aws_secret_access_key="key", region_name="us-east-1"
    )
    client.create_bucket(Bucket=BUCKET)
    made = Store(endpoint, client)
    yield made
    for name in made.names:
        client.delete_object(Bucket=BUCKET, Key=name)
    client.delete_bucket(Bucket=BUCKET)
    client.close()


async def test_a_table_is_streamed_into_a_bucket_and_read_from_there(bench: Bench, store: Store) -> None:
    query = task(f"SELECT n, {LONG_TEXT} FROM generate_series(1, 50000) AS n", {"t": TABLE})
    async with running_server(bench.connector(results=store.results)) as host:
        found = (await outputs(host, query, prefix=f"s3://{BUCKET}/team/0"))["t"]
        count = task("SELECT count(*)::int FROM written")
        assert await outputs(host, count, {"written": found}) == {"result": 50000}
        missing = StructuredDataset(f"s3://{BUCKET}/team/nowhere", "parquet")
        over = await run(host, count, {"written": missing})
        assert (Phase(over.phase), "there is no file at" in over.message) == (Phase.FAILED, True)
    assert found.uri == f"s3://{BUCKET}/team/0/t"
    assert store.names == ["team/0/t/00000.parquet"]
    store.client.download_file(BUCKET, store.names[0], str(bench.folder / "downloaded.parquet"))
    assert pq.read_table(bench.folder / "downloaded.parquet").num_rows == 50000


async def test_a_result_that_fails_leaves_nothing_in_the_bucket(bench: Bench, store: Store) -> None:
    query = task(f"SELECT {LONG_TEXT}, 1 / (50000 - n) AS x FROM generate_series(1, 50000) AS n", {"t": TABLE})
    async with running_server(bench.connector(results=store.results)) as host:
        over = await run(host, query, prefix=f"s3://{BUCKET}/team/0")
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, "SQLSTATE_22012")
    assert store.names == []
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=BUCKET)


async def test_a_bucket_that_is_not_there_is_told(bench: Bench, store: Store) -> None:
    results = {**store.results, "allowed_uris": ["s3://elsewhere/"]}
    async with running_server(bench.connector(results=results)) as host:
        over = await run(host, task("SELECT 1 AS n", {"t": TABLE}), prefix="s3://elsewhere/0")
        assert Phase(over.phase) is Phase.RETRYABLE_FAILED
        assert "cannot write" in over.message
        over = await run(host, task("SELECT 1 AS n", {"t": TABLE}), prefix=f"s3://{BUCKET}/team/0")
        assert "is below none of the allowed_uris" in over.message


async def test_a_manifest_in_a_bucket_is_found_by_another_host(bench: Bench, store: Store) -> None:
    connector = {"results": store.results, "read_only": True}
    async with running_server(bench.connector(**connector)) as host:
        meta = await host.create(task("SELECT 42"), output_prefix=f"s3://{BUCKET}/team/1")
        over = await run(host, task("SELECT 42"), prefix=f"s3://{BUCKET}/team/1")
        assert Phase(over.phase) is Phase.SUCCEEDED
    async with running_server(bench.connector(**connector)) as host:
        over = await host.get("postgres_query", meta)
    assert to_python_map(over.outputs) == {"result": 42}
