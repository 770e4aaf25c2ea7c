"""Inputs from and results to an object store: a moto server on loopback."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import fsspec  # type: ignore[import-untyped]
import pytest
from flyteidl.core.types_pb2 import LiteralType, SchemaType, SimpleType, StructuredDatasetType

from connector_core import BackendUnavailableError, InvalidInputError, PermanentError, PermissionDeniedError
from connector_core.literals import Directory, File, Schema, StructuredDataset
from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.connector import DuckDBConnector
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.storage import Storage

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed")

Ask = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
Connect = Callable[..., DuckDBConnector]
Asking = Callable[[DuckDBConnector], Ask]

DATASET = LiteralType(structured_dataset_type=StructuredDatasetType(format="parquet"))


@dataclass
class Bucket:
    """A bucket on the moto server."""

    endpoint: str
    client: Any
    name: str = "flyte-data"

    @property
    def options(self) -> dict[str, Any]:
        """What `[plugins.duckdb.storage_options]` says; the credentials are looked up as secrets."""
        secrets = {"key": {"secret": "key_id", "group": "store"}, "secret": {"secret": "secret_key", "group": "store"}}
        return {"s3": {"endpoint_url": self.endpoint, **secrets, "client_kwargs": {"region_name": "us-east-1"}}}

    def put(self, key: str, body: bytes) -> str:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return f"s3://{self.name}/{key}"

    def list(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def parquet(self, key: str, folder: Path) -> duckdb.DuckDBPyRelation:
        self.client.download_file(self.name, key, str(folder / "downloaded.parquet"))
        return duckdb.read_parquet(str(folder / "downloaded.parquet"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("_FSEC_STORE_KEY_ID", "testing")
    monkeypatch.setenv("_FSEC_STORE_SECRET_KEY", "hush-hush")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    bucket = Bucket(endpoint, client)
    client.create_bucket(Bucket=bucket.name)
    yield bucket
    for key in bucket.list():
        client.delete_object(Bucket=bucket.name, Key=key)
    client.delete_bucket(Bucket=bucket.name)
    client.close()


@pytest.fixture
def ask_s3(connect: Connect, asking: Asking, bucket: Bucket) -> Ask:
    return asking(connect(allowed_uris=["s3://"], storage_options=bucket.options))


def parquet_bytes(sql: str, folder: Path) -> bytes:
    path = folder / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


class TestResults:
    async def test_a_declared_dataset_is_parquet_under_the_output_prefix(
        self, ask_s3: Ask, bucket: Bucket, tmp_path: Path
    ) -> None:
        prefix = f"s3://{bucket.name}/metadata/n0/data/0"
        outputs = await ask_s3("SELECT n, n::VARCHAR AS s FROM range(3) t(n)", outputs={"rows": DATASET}, prefix=prefix)
        assert outputs == {"rows": StructuredDataset(f"{prefix}/rows", "parquet", (("n", int), ("s", str)))}
        assert bucket.list() == ["metadata/n0/data/0/rows/00000.parquet"]
        found = bucket.parquet("metadata/n0/data/0/rows/00000.parquet", tmp_path)
        assert found.fetchall() == [(0, "0"), (1, "1"), (2, "2")]

    async def test_a_declared_dataset_may_be_empty(self, ask_s3: Ask, bucket: Bucket, tmp_path: Path) -> None:
        await ask_s3("SELECT 1 AS n WHERE false", outputs={"rows": DATASET}, prefix=f"s3://{bucket.name}/p")
        found = bucket.parquet("p/rows/00000.parquet", tmp_path)
        assert (found.columns, found.fetchall()) == (["n"], [])

    async def test_a_declared_schema_is_written_alike(self, ask_s3: Ask, bucket: Bucket) -> None:
        outputs = {"rows": LiteralType(schema=SchemaType())}
        answer = await ask_s3("SELECT 1 AS n", outputs=outputs, prefix=f"s3://{bucket.name}/p/")
        assert answer == {"rows": Schema(f"s3://{bucket.name}/p/rows", (("n", int),))}

    async def test_a_large_result_that_is_not_declared_is_a_dataset(
        self, ask_s3: Ask, bucket: Bucket, tmp_path: Path
    ) -> None:
        outputs = await ask_s3("FROM range(1001)", prefix=f"s3://{bucket.name}/p")
        assert outputs["result"].uri == f"s3://{bucket.name}/p/result"
        assert len(bucket.parquet("p/result/00000.parquet", tmp_path).fetchall()) == 1001

    async def test_values_that_parquet_would_change_are_written_as_they_are(
        self, ask_s3: Ask, bucket: Bucket, tmp_path: Path
    ) -> None:
        sql = """SELECT 9007199254740993::HUGEINT AS h, INTERVAL '1 month 0.5 seconds' AS i, TIMETZ '10:00:00+02' AS t,
                 1.10::DECIMAL(38, 2) AS d, TIMESTAMP_NS '2024-01-01 00:00:00.000000001' AS n,
                 {'a': [170141183460469231731::HUGEINT // 100]} AS s, '101'::BIT AS b, DATE '2024-02-29' AS day"""
        await ask_s3(sql, outputs={"rows": DATASET}, prefix=f"s3://{bucket.name}/p")
        found = bucket.parquet("p/rows/00000.parquet", tmp_path)
        kinds = [
            "BIGINT",
            "VARCHAR",
            "VARCHAR",
            "DECIMAL(38,2)",
            "TIMESTAMP_NS",
            "STRUCT(a BIGINT[])",
            "VARCHAR",
            "DATE",
        ]
        assert [str(kind) for kind in found.types] == kinds
        as_text = found.project("COLUMNS(*)::VARCHAR").fetchall()
        assert as_text == [
            (
                "9007199254740993",
                "1 month 00:00:00.5",
                "10:00:00+02",
                "1.10",
                "2024-01-01 00:00:00.000000001",
                "{'a': [1701411834604692317]}",
                "101",
                "2024-02-29",
            )
        ]

    async def test_an_integer_beyond_64_bits_is_refused(self, ask_s3: Ask, bucket: Bucket) -> None:
        with pytest.raises(InvalidInputError, match="INT64"):
            await ask_s3(
                "SELECT 4::HUGEINT * 9223372036854775807", outputs={"rows": DATASET}, prefix=f"s3://{bucket.name}/p"
            )

    async def test_a_result_that_cannot_be_a_table_is_an_error(self, ask_s3: Ask, bucket: Bucket) -> None:
        with pytest.raises(InvalidInputError, match="end with a SELECT"):
            await ask_s3("EXPLAIN SELECT 1", outputs={"rows": DATASET}, prefix=f"s3://{bucket.name}/p")

    async def test_a_table_needs_an_output_prefix(self, ask_s3: Ask) -> None:
        with pytest.raises(InvalidInputError, match="no output_prefix"):
            await ask_s3("SELECT 1", outputs={"rows": DATASET})

    async def test_another_declared_format_is_an_error(self, ask_s3: Ask, bucket: Bucket) -> None:
        csv = LiteralType(structured_dataset_type=StructuredDatasetType(format="csv"))
        with pytest.raises(InvalidInputError, match="'csv'"):
            await ask_s3("SELECT 1", outputs={"rows": csv}, prefix=f"s3://{bucket.name}/p")
        assert bucket.list() == []

    async def test_a_declared_column_that_is_missing_is_an_error(self, ask_s3: Ask, bucket: Bucket) -> None:
        kind = StructuredDatasetType()
        kind.columns.add(name="wanted", literal_type=LiteralType(simple=SimpleType.INTEGER))
        outputs = {"rows": LiteralType(structured_dataset_type=kind)}
        with pytest.raises(InvalidInputError, match="wanted"):
            await ask_s3("SELECT 1 AS other", outputs=outputs, prefix=f"s3://{bucket.name}/p")

    async def test_a_missing_bucket_is_an_error_that_names_the_uri(self, ask_s3: Ask) -> None:
        with pytest.raises(InvalidInputError, match="s3://no-such-bucket/p/rows"):
            await ask_s3("SELECT 1", outputs={"rows": DATASET}, prefix="s3://no-such-bucket/p")


class TestInputs:
    async def test_a_dataset_is_a_view(self, ask_s3: Ask, bucket: Bucket, tmp_path: Path) -> None:
        for number in range(3):
            bucket.put(f"d/{number:05}", parquet_bytes(f"SELECT {number} AS n", tmp_path))
        bucket.put("d/_SUCCESS", b"")
        inputs = {"d": StructuredDataset(f"s3://{bucket.name}/d", "parquet")}
        assert await ask_s3("SELECT sum(n), count(*) FROM d", inputs) == {"result": [{"sum(n)": 3, "count_star()": 3}]}

    async def test_what_another_plugin_registers_for_the_protocol_is_not_taken(
        self, ask_s3: Ask, bucket: Bucket
    ) -> None:
        """Flyte's SDK 2 registers a class of its own, which takes other options, for the whole process."""
        before = fsspec.get_filesystem_class("s3")
        fsspec.register_implementation("s3", object, clobber=True)
        try:
            inputs = {"f": File(bucket.put("x.csv", b"n\n1\n"))}
            assert await ask_s3("SELECT count(*) AS n FROM f", inputs) == {"result": 1}
        finally:
            fsspec.register_implementation("s3", before, clobber=True)

    async def test_partitions_are_columns(self, ask_s3: Ask, bucket: Bucket, tmp_path: Path) -> None:
        for year in (2023, 2024):
            bucket.put(f"d/year={year}/x.parquet", parquet_bytes("SELECT 1 AS n", tmp_path))
        inputs = {"d": StructuredDataset(f"s3://{bucket.name}/d/")}
        assert await ask_s3("SELECT sum(year) FROM d", inputs) == {"result": 4047}

    async def test_files_and_folders_are_views_and_parameters(self, ask_s3: Ask, bucket: Bucket) -> None:
        inputs = {"f": File(bucket.put("a/x.csv", b"n\n1\n")), "d": Directory(f"s3://{bucket.name}/a", "csv")}
        bucket.put("a/y.csv", b"n\n2\n")
        assert await ask_s3("SELECT (SELECT n FROM f) + (SELECT sum(n) FROM d)", inputs) == {"result": 4}
        assert await ask_s3("SELECT sum(n) FROM read_csv($d)", inputs) == {"result": 3}

    async def test_a_compressed_file_keeps_what_its_name_says(
        self, ask_s3: Ask, bucket: Bucket, tmp_path: Path
    ) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT 5 AS n) TO '{tmp_path}/x.csv.gz'")
        inputs = {"f": File(bucket.put("x.csv.gz", (tmp_path / "x.csv.gz").read_bytes()))}
        assert await ask_s3("SELECT n FROM f", inputs) == {"result": 5}

    async def test_what_was_written_a_moment_ago_is_seen(self, ask_s3: Ask, bucket: Bucket) -> None:
        inputs = {"d": Directory(f"s3://{bucket.name}/d", "csv")}
        bucket.put("d/1.csv", b"n\n1\n")
        assert await ask_s3("SELECT sum(n) FROM d", inputs) == {"result": 1}
        bucket.put("d/2.csv", b"n\n2\n")
        assert await ask_s3("SELECT sum(n) FROM d", inputs) == {"result": 3}

    @pytest.mark.parametrize("key", ["d/../../../../evil/x.csv", "d/a*b/x.csv", "d/[a]/x.csv"])
    async def test_a_key_that_could_leave_the_private_folder_is_refused(
        self, ask_s3: Ask, bucket: Bucket, key: str
    ) -> None:
        bucket.put(key, b"n\n1\n")
        with pytest.raises(PermanentError):
            await ask_s3("FROM d", {"d": Directory(f"s3://{bucket.name}/d", "csv")})

    async def test_a_missing_input_is_an_error_that_names_the_uri(self, ask_s3: Ask, bucket: Bucket) -> None:
        with pytest.raises(InvalidInputError, match=f"s3://{bucket.name}/none.csv"):
            await ask_s3("SELECT 1", {"f": File(f"s3://{bucket.name}/none.csv")})

    async def test_inputs_larger_than_the_disk_limit_are_refused_before_they_are_fetched(
        self, connect: Connect, asking: Asking, bucket: Bucket
    ) -> None:
        ask = asking(connect(allowed_uris=["s3://"], storage_options=bucket.options, disk_limit=1000))
        with pytest.raises(InvalidInputError, match="has 1001 bytes; the disk_limit") as caught:
            await ask("SELECT 1", {"f": File(bucket.put("x.csv", b"x" * 1001))})
        assert caught.value.error_code == "DISK_LIMIT_EXCEEDED"


class TestAccess:
    async def test_no_object_store_is_open_unless_the_operator_says_so_and_the_error_says_what_to_add(
        self, connect: Connect, asking: Asking, bucket: Bucket
    ) -> None:
        ask = asking(connect(storage_options=bucket.options))
        uri = bucket.put("team/x.csv", b"n\n1\n")
        with pytest.raises(PermissionDeniedError, match=r'allowed_uris of \[plugins.duckdb\].* "s3://flyte-data/"'):
            await ask("SELECT n FROM f", {"f": File(uri)})

    async def test_the_operator_may_narrow_the_buckets(
        self, connect: Connect, asking: Asking, bucket: Bucket, tmp_path: Path
    ) -> None:
        ask = asking(connect(storage_options=bucket.options, allowed_uris=[f"s3://{bucket.name}/team"]))
        bucket.put("team/x.csv", b"n\n1\n")
        assert await ask("SELECT n FROM f", {"f": File(f"s3://{bucket.name}/team/x.csv")}) == {"result": 1}
        for uri in ("team2/x.csv", "team/../other/x.csv", "x.csv"):
            with pytest.raises(PermissionDeniedError):
                await ask("SELECT 1", {"f": File(f"s3://{bucket.name}/{uri}")})
        with pytest.raises(PermissionDeniedError, match=r"none of the allowed_uris of \[plugins.duckdb\]"):
            await ask("SELECT 1", outputs={"rows": DATASET}, prefix=f"s3://{bucket.name}/other")

    async def test_the_sql_itself_reaches_no_object_store(self, ask_s3: Ask, bucket: Bucket) -> None:
        with pytest.raises(PermissionDeniedError):
            await ask_s3(f"FROM read_csv('{bucket.put('x.csv', b'n')}')")

    async def test_a_store_that_does_not_answer_is_unavailable(
        self, connect: Connect, asking: Asking, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)  # else s3fs tries again for some ten seconds
        no_retries = {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"max_attempts": 0}}}
        options = {"s3": bucket.options["s3"] | no_retries}
        ask = asking(connect(allowed_uris=["s3://"], storage_options=options))
        with pytest.raises(BackendUnavailableError, match=r"cannot read s3://flyte-data/x\.csv"):
            await ask("SELECT 1", {"f": File(f"s3://{bucket.name}/x.csv")})

    async def test_without_options_the_environment_says_where_the_store_is(
        self, connect: Connect, asking: Asking, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask = asking(connect(allowed_uris=["s3://"]))
        environment = {"ENDPOINT_URL": bucket.endpoint, "ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing"}
        for name, value in environment.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        assert await ask("SELECT n FROM f", {"f": File(bucket.put("x.csv", b"n\n1\n"))}) == {"result": 1}

    async def test_credentials_are_told_to_nobody(
        self, ask_s3: Ask, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", "connector_plugin_duckdb")
        with pytest.raises(InvalidInputError) as caught:
            await ask_s3("SELECT 1", {"f": File(f"s3://{bucket.name}/none.csv")})
        assert "hush-hush" not in str(caught.value)
        assert "hush-hush" not in caplog.text

    async def test_a_missing_secret_is_an_error_that_names_it(
        self, ask_s3: Ask, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("_FSEC_STORE_KEY_ID")
        with pytest.raises(Exception, match="_FSEC_STORE_KEY_ID"):
            await ask_s3("SELECT 1", {"f": File(f"s3://{bucket.name}/x.csv")})


class TestStopping:
    async def test_a_transfer_ends_when_the_query_has_to_stop(self, bucket: Bucket, tmp_path: Path) -> None:
        storage = Storage(load_config({"allowed_uris": ["s3://"], "storage_options": bucket.options}))
        uri = bucket.put("big.bin", bytes(2**20))
        begun, stop = asyncio.Event(), Stop()
        loop, go_on = asyncio.get_running_loop(), threading.Event()

        class Watched(Stop):
            def check(self) -> None:
                loop.call_soon_threadsafe(begun.set)
                go_on.wait()
                stop.check()

        fetching = asyncio.create_task(asyncio.to_thread(storage.fetch, uri, tmp_path, ".bin", Watched()))
        await begun.wait()
        stop.request(PermanentError("stopped"))
        go_on.set()
        with pytest.raises(PermanentError, match="stopped"):
            await fetching


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_without_the_extra_an_error_names_it(scheme: str, package: str, extra: str) -> None:
    """In a process of its own, where the package cannot be imported."""
    code = f"""
import sys
sys.modules[{package!r}] = None
from pathlib import Path
from connector_core.errors import ConnectorError
from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.stop import Stop
from connector_plugin_duckdb.storage import Storage
try:
    Storage(load_config({{"allowed_uris": ["{scheme}://"]}})).fetch("{scheme}://bucket/x.csv", Path("/nowhere"), "", Stop())
except ConnectorError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert f'pip install "connector-plugin-duckdb[{extra}]"' in done.stdout
