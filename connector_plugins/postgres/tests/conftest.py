"""What the tests of the postgres plugin share: a real server on this machine, a database for each test, and hosts for it."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType, StructuredDatasetType
from google.protobuf.json_format import ParseDict

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_plugin_postgres.config import PostgresConfig, load_config
from connector_plugin_postgres.connector import PostgresConnector
from connector_plugin_postgres.ledger import ddl

PATIENCE = 30.0
PASSWORD = "not told to anybody"

# Nothing listens on loopback, where a port can be anybody's.
_HBA = "local all admin trust\nlocal all all scram-sha-256\n"
_SETTINGS = "fsync=off\nfull_page_writes=off\nlisten_addresses=''\nmax_connections=50\n"
_PORT = 5432


def binaries() -> Path | None:
    """The folder of the newest server that is installed: Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """A PostgreSQL of the tests' own behind a socket in a folder, which trusts `admin` and asks all others for passwords."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        # It refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name

    @property
    def socket(self) -> str:
        return f"{self.folder}/.s.PGSQL.{_PORT}"

    def install(self) -> None:
        if os.getuid() == 0:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "-U", "admin", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        with (self.folder / "data/postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}port={_PORT}\nunix_socket_directories='{self.folder}'\n")
        (self.folder / "data/pg_hba.conf").write_text(_HBA)

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-s", "-l", f"{self.folder}/log", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")

    def dsn(self, database: str) -> str:
        return f"postgresql://admin@/{database}?host={self.folder}&port={_PORT}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", f"{self.folder}/data", *arguments]
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        # A file, and not a pipe: the server that is left behind would keep that open.
        with tempfile.TemporaryFile("w+") as told:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, cwd="/", check=False, **user
            )
            told.seek(0)
            assert done.returncode == 0, told.read()


class Bench:
    """A database of one test, and connectors for it."""

    def __init__(self, server: Server, database: str, folder: Path) -> None:
        self.server = server
        self.database = database
        self.folder = folder
        self.key_table = "flyte_jobs"

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database)

    def config(self, *, results: Mapping[str, Any] | None = None, **connection: Any) -> PostgresConfig:
        """A section of the settings with the connection `main`."""
        return load_config(self.section(results=results, **connection))

    def section(self, *, results: Mapping[str, Any] | None = None, **connection: Any) -> dict[str, Any]:
        settings = {"dsn": self.dsn, "key_table": self.key_table, "connection_check_interval": 0.2, **connection}
        if settings.get("read_only"):
            del settings["key_table"]
        return {"connections": {"main": settings}, "allowed_directories": [str(self.folder)], **(results or {})}

    def connector(self, **settings: Any) -> PostgresConnector:
        """A connector as a host that begins now would make it."""
        return PostgresConnector(self.config(**settings))

    @property
    def prefix(self) -> str:
        """An output prefix that nothing has used."""
        return f"{self.folder}/{next(_NUMBERS)}/0"

    async def sql(self, *statements: str) -> Any:
        """Run SQL as the operator; return the last one's only value."""
        import asyncpg

        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def gate(self, number: int = 5) -> AsyncIterator[Any]:
        """A session of the test's that holds an advisory lock, for statements to wait at until it is closed."""
        import asyncpg

        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"SELECT pg_advisory_lock({number})")
            yield connection
        finally:
            await connection.close()

    async def until(self, question: str, answer: Any = True) -> None:
        """Wait until the database answers so: other sessions send no events."""
        async with asyncio.timeout(PATIENCE):
            while await self.sql(question) != answer:  # noqa: ASYNC110 - as said
                await asyncio.sleep(0.02)


_NUMBERS = count()


def task(query: str, outputs: Mapping[str, LiteralType] | None = None, **custom: Any) -> TaskTemplate:
    """A task template with this statement; without `outputs` it has no interface."""
    template: TaskTemplate = ParseDict({"type": "postgres_query", "custom": {"query": query, **custom}}, TaskTemplate())
    if outputs is not None:
        template.interface.SetInParent()
        for name, kind in outputs.items():
            template.interface.outputs.variables[name].type.CopyFrom(kind)
    return template


GATED_INSERT = "INSERT INTO t SELECT 1 FROM (SELECT pg_advisory_xact_lock_shared(5)) AS gate"

INTEGER = LiteralType(simple=SimpleType.INTEGER)
FLOAT = LiteralType(simple=SimpleType.FLOAT)
STRING = LiteralType(simple=SimpleType.STRING)
DATETIME = LiteralType(simple=SimpleType.DATETIME)
STRUCT = LiteralType(simple=SimpleType.STRUCT)
TABLE = LiteralType(structured_dataset_type=StructuredDatasetType())


async def ended(host: Any, meta: bytes) -> Any:
    """Poll a job, as the engine does, until it is over."""
    async with asyncio.timeout(PATIENCE):
        while not Phase((resource := await host.get("postgres_query", meta)).phase).is_terminal:  # noqa: ASYNC110 - engines poll
            await asyncio.sleep(0.02)
    return resource


async def reached(host: Any, meta: bytes, phase: Phase) -> Any:
    """Poll a job until it is in a phase."""
    async with asyncio.timeout(PATIENCE):
        while Phase((resource := await host.get("postgres_query", meta)).phase) is not phase:
            assert not Phase(resource.phase).is_terminal, resource.message
            await asyncio.sleep(0.02)
    return resource


async def run(
    host: Any, template: TaskTemplate, inputs: Mapping[str, Any] | None = None, prefix: str | None = None
) -> Any:
    """Create a job and follow it to its end."""
    return await ended(host, await host.create(template, inputs, output_prefix=prefix))


async def outputs(
    host: Any, template: TaskTemplate, inputs: Mapping[str, Any] | None = None, prefix: str | None = None
) -> Any:
    """The outputs of a job that has to succeed."""
    over = await run(host, template, inputs, prefix)
    assert Phase(over.phase) is Phase.SUCCEEDED, over.message
    return to_python_map(over.outputs)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real server for the tests of this process."""
    programs = binaries()
    if programs is None:
        pytest.skip("postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    made = Server(programs, folder)
    try:
        made.install()
        made.start()
        try:
            yield made
        finally:
            with contextlib.suppress(AssertionError):
                made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bench(server: Server, tmp_path: Path) -> Bench:
    """A fresh database with a key table."""
    return asyncio.run(_prepared(server, tmp_path))


@pytest.fixture(scope="module")
def shared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A database for tests that can share one: what they run changes nothing for others."""
    return asyncio.run(_prepared(server, tmp_path_factory.mktemp("shared")))


async def _prepared(server: Server, folder: Path) -> Bench:
    import asyncpg

    made = Bench(server, f"test{next(_NUMBERS)}", folder)
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute(f"CREATE DATABASE {made.database}")
    await connection.close()
    await made.sql(ddl(made.key_table), "CREATE TYPE mood AS ENUM ('calm', 'wild')", "SELECT 1")
    return made


class Proxy:
    """Stands between a host and the server, on a port of loopback, and cuts connections where a test says.

    Attributes:
        port: where it listens.
        on_client: looks at what a client sends: "swallow" lets it through and cuts the connection in place of the answer,
            "cut" cuts it before.
    """

    def __init__(self, target: str) -> None:
        self.port = 0
        self.on_client: Callable[[bytes], str] = lambda data: ""
        self.cut = asyncio.Event()
        self._target = target

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        swallow = asyncio.Event()

        async def forth() -> None:
            while data := await reader.read(65536):
                what = self.on_client(data)
                if what == "cut":
                    self.cut.set()
                    return
                if what == "swallow":
                    swallow.set()
                back.write(data)

        async def answers() -> None:
            while data := await there.read(65536):
                if swallow.is_set():
                    self.cut.set()
                    return
                writer.write(data)

        tasks = [asyncio.create_task(forth()), asyncio.create_task(answers())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in (writer, back):
            side.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
