"""What the README says holds."""

import re
import tomllib
from pathlib import Path

from connector_plugin_duckdb.config import DuckDBConfig, load_config

README = Path(__file__).parents[1] / "README.md"


def test_every_setting_has_a_row_and_is_in_the_example() -> None:
    text = README.read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", text, re.MULTILINE)
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    section = tomllib.loads(example)["plugins"]["duckdb"]
    load_config(section)
    assert set(DuckDBConfig.__struct_fields__) == set(section)
    assert set(DuckDBConfig.__struct_fields__) <= set(rows)
    assert {f"`{name}`" for name in DuckDBConfig.__struct_fields__} <= set(re.findall(r"`\w+`", text))
