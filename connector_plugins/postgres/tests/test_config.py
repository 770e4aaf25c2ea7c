"""The operator's section, and what is wrong with it."""

import subprocess
import sys
from typing import Any

import pytest

from connector_core.errors import SettingsError
from connector_plugin_postgres.config import load_config

GOOD: dict[str, Any] = {"dsn": "postgresql://app@db.internal/app", "key_table": "flyte.jobs"}


def section(**changed: Any) -> dict[str, Any]:
    return {"connections": {"main": {name: value for name, value in (GOOD | changed).items() if value is not None}}}


def test_a_connection_has_defaults_that_bound_it() -> None:
    database = load_config(section()).connections["main"]
    assert (database.statement_timeout, database.max_jobs, database.read_only) == (3600, 10, False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dsn": "postgresql://app:geheim@db/app"}, "has a password"),
        ({"dsn": "postgresql://app@db/app?password=geheim"}, "has a password"),
        ({"dsn": "mysql://app@db/app"}, "does not begin with postgresql://"),
        ({"dsn": "postgresql:///app"}, "names no host"),
        ({"key_table": "jobs; DROP TABLE x"}, "is not a table's name"),
        ({"key_table": None}, "name the `key_table`"),
        ({"read_only": True}, "one of the two"),
        ({"role": "x'; --"}, "is not the name of a role"),
        ({"max_jobs": 0}, "max_jobs"),
        ({"tabel": "x"}, "unknown"),
    ],
)
def test_a_mistake_is_named(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_config(section(**changed))
    assert words in str(caught.value)


def test_places_are_absolute_or_in_a_store() -> None:
    for mistake in ({"allowed_directories": ["results"]}, {"allowed_uris": ["https://results/"]}):
        with pytest.raises(SettingsError, match="allowed_"):
            load_config({**section(), **mistake})


def test_credentials_of_stores_are_not_shown() -> None:
    config = load_config({**section(), "storage_options": {"s3": {"key": "geheim"}}})
    assert "geheim" not in repr(config)


def test_libraries_are_imported_when_they_are_first_used() -> None:
    program = """
import sys
from connector_plugin_postgres.plugin import register_connectors
(connector,) = register_connectors({"connections": {"x": {"dsn": "postgresql://u@h/d", "key_table": "t"}}})
print(sorted({"asyncpg", "pyarrow", "fsspec", "s3fs"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
