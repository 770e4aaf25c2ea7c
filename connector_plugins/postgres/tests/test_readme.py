"""What the README says holds."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from connector_plugin_postgres.config import Database, PostgresConfig, load_config
from connector_plugin_postgres.ledger import ddl

from .conftest import Bench

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_settings_are_as_the_examples_write_them() -> None:
    for text in blocks("toml"):
        load_config(tomllib.loads(text)["plugins"]["postgres"])


def test_every_setting_has_a_row_with_its_default() -> None:
    section = README.partition("## Settings")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", section, re.MULTILINE))
    names = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert {*PostgresConfig.__struct_fields__, *Database.__struct_fields__} <= names
    database = load_config({"connections": {"x": {"dsn": "postgresql://u@h/d", "key_table": "t"}}}).connections["x"]
    for name in ("statement_timeout", "max_jobs", "connect_timeout", "connection_check_interval", "cancel_grace"):
        assert float(rows[f"`{name}`"]) == getattr(database, name)


def test_the_table_is_the_one_that_the_error_prints() -> None:
    assert blocks("sql") == [ddl("flyte_jobs") + "\n"]


def test_the_task_is_as_the_example_writes_it() -> None:
    made: dict[str, object] = {}
    exec("import datetime\n" + blocks("python")[0], made)
    assert type(made["orders"]).__name__ == "PostgresQuery"


def test_five_minutes_from_nothing_to_a_run(bench: Bench, tmp_path: Path) -> None:
    settings = blocks("toml")[0].replace("postgresql://postgres@127.0.0.1:5432/postgres", bench.dsn)
    (tmp_path / "connector-host.toml").write_text(settings)
    (password,) = re.findall(r"export _FSEC_PG_PASSWORD=(\S+)", README)
    (custom,) = re.findall(r"connector-host run postgres_query --custom '(.*)' --input n=21", README)
    host = str(Path(sys.executable).parent / "connector-host")
    done = subprocess.run(
        [host, "run", "postgres_query", "--custom", custom, "--input", "n=21", "--json"],
        cwd=tmp_path, env=os.environ | {"_FSEC_PG_PASSWORD": password},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"result": 42}
