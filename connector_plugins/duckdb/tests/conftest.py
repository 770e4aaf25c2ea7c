"""Real DuckDB, real files and an object store on loopback for the tests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import Sql, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf.struct_pb2 import Struct

from connector_core.literals import to_python_map
from connector_plugin_duckdb.config import load_config
from connector_plugin_duckdb.connector import DuckDBConnector


class Ask(Protocol):
    """Runs SQL through a connector and returns its outputs as Python values."""

    def __call__(
        self,
        sql: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Mapping[str, LiteralType] | None = None,
        custom: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> Awaitable[dict[str, Any]]: ...


def make_template(
    sql: str = "", outputs: Mapping[str, LiteralType] | None = None, custom: Mapping[str, Any] | None = None
) -> TaskTemplate:
    template = TaskTemplate(type="duckdb_query")
    if sql:
        template.sql.CopyFrom(Sql(statement=sql, dialect=Sql.ANSI))
    if outputs is not None:
        variables = {name: Variable(type=kind) for name, kind in outputs.items()}
        template.interface.CopyFrom(TypedInterface(outputs=VariableMap(variables=variables)))
    if custom is not None:
        fields = Struct()
        fields.update(dict(custom))
        template.custom.CopyFrom(fields)
    return template


@pytest.fixture
def template() -> Callable[..., TaskTemplate]:
    return make_template


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Callable[..., DuckDBConnector]]:
    """Makes connectors from the settings that an operator would write, small ones unless said otherwise."""
    made: list[DuckDBConnector] = []
    staging = tmp_path / "staging"
    staging.mkdir()

    def make(**settings: Any) -> DuckDBConnector:
        limits = {"memory_limit": "200MB", "disk_limit": "200MB", "max_concurrent": 1}
        section = limits | {"staging_directory": str(staging)} | settings
        made.append(DuckDBConnector(load_config(section)))
        return made[-1]

    yield make
    for connector in made:
        await connector.close()
    assert list(staging.iterdir()) == [], "a query left its private folder behind"


@pytest.fixture
def asking() -> Callable[[DuckDBConnector], Ask]:
    """Asks a connector."""

    def bind(connector: DuckDBConnector) -> Ask:
        async def ask(
            sql: str,
            inputs: Mapping[str, Any] | None = None,
            *,
            outputs: Mapping[str, LiteralType] | None = None,
            custom: Mapping[str, Any] | None = None,
            prefix: str = "",
        ) -> dict[str, Any]:
            resource = await connector.do(make_template(sql, outputs, custom), inputs or {}, prefix)
            assert isinstance(resource.outputs, LiteralMap)
            return to_python_map(resource.outputs)

        return ask

    return bind


@pytest.fixture
def ask(connect: Callable[..., DuckDBConnector], asking: Callable[[DuckDBConnector], Ask]) -> Ask:
    """Asks a connector whose operator allows nothing but SQL."""
    return asking(connect())


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that the operator allows, in tests that say so."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


@pytest.fixture
def ask_open(
    connect: Callable[..., DuckDBConnector], asking: Callable[[DuckDBConnector], Ask], open_folder: Path
) -> Ask:
    """Asks a connector whose operator allows `open_folder`."""
    return asking(connect(allowed_directories=[str(open_folder)]))


@pytest.fixture
def secret_file(tmp_path: Path) -> Iterator[Path]:
    """A file of the host that no caller may see."""
    file = tmp_path / "secret.csv"
    file.write_text("word\nhush\n")
    yield file
    assert file.read_text() == "word\nhush\n"
