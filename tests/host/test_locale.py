"""A host in a locale that knows ASCII alone, or another encoding than UTF-8: its files are UTF-8, and it prints anything."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.environments import clean_environment, run

CONNECTOR_HOST = Path(sys.executable).with_name("connector-host")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
IN_LATIN_1 = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}

PLUGIN = """
    import logging
    from pathlib import Path
    from connector_core import Phase, Resource, SyncConnectorBase, get_secret, hookimpl

    class C(SyncConnectorBase):
        name = "Größe → 鍵"
        task_type_name = "größe"

        def do(self):
            logging.getLogger(__name__).warning("läuft → 鍵")
            return Resource(Phase.SUCCEEDED, outputs={"o0": get_secret("schlüssel").get_secret_value()})

    @hookimpl
    def register_connectors(config):
        assert config == {"Größe": "XXL → 鍵"}, config
        return [C()]
"""
SETTINGS = """
    modules = ["grosse"]
    allow_plugin = ["grosse"]
    [plugins.grosse]
    "Größe" = "XXL → 鍵"
    [secrets]
    folder = "geheim-Ü"
    [limits."grosse/Größe → 鍵"]
    workers = 3
    [signing]
    keys_file = "Schlüssel"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grosse.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (tmp_path / "connector-host.toml").write_text(textwrap.dedent(SETTINGS), encoding="utf-8")
    (tmp_path / "geheim-Ü").mkdir()
    (tmp_path / "geheim-Ü" / "schlüssel").write_text("päßwörd 鍵", encoding="utf-8")
    (tmp_path / "Schlüssel").write_text("ein langer schlüssel → 鍵", encoding="utf-8")
    return tmp_path


def test_a_list_has_all_characters_where_the_locale_knows_ascii_alone(folder: Path) -> None:
    assert "Größe → 鍵" in run(CONNECTOR_HOST, "list", cwd=folder, **ASCII).stdout
    listed = json.loads(run(CONNECTOR_HOST, "list", "--json", cwd=folder, **ASCII).stdout)
    assert listed["warnings"] == []
    assert listed["plugins"][0]["connectors"][0]["name"] == "Größe → 鍵"


def test_a_list_spells_out_the_characters_that_the_terminals_encoding_lacks(folder: Path) -> None:
    listed = subprocess.run(
        [CONNECTOR_HOST, "list"],
        cwd=folder,
        env=clean_environment(**IN_LATIN_1),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert "Größe \\u2192 \\u9375" in listed.stdout.decode("latin-1")


def test_settings_in_variables_and_flags_are_utf8(folder: Path) -> None:
    (folder / "connector-host.toml").unlink()
    listed = run(
        *(CONNECTOR_HOST, "list", "--json", "--modules", "grosse", "--allow-plugin", "grosse"),
        *("--prefer", "name:Größe → 鍵=grosse"),
        cwd=folder,
        CONNECTOR_HOST__PLUGINS__GROSSE='{"Größe": "XXL → 鍵"}',
        **ASCII,
    )
    assert json.loads(listed.stdout)["warnings"] == []


def test_secrets_outputs_and_the_log_are_utf8(folder: Path) -> None:
    done = run(CONNECTOR_HOST, "run", "größe", "--verbose", "--json", cwd=folder, **ASCII)
    assert json.loads(done.stdout)["outputs"] == {"o0": "päßwörd 鍵"}
    assert "läuft → 鍵" in done.stderr or "l\\u00e4uft \\u2192 \\u9375" in done.stderr


def test_a_secret_in_the_environment_is_utf8(folder: Path) -> None:
    done = run(CONNECTOR_HOST, "run", "größe", "--json", cwd=folder, _FSEC_SCHLÜSSEL="änders 鍵", **ASCII)
    assert json.loads(done.stdout)["outputs"] == {"o0": "änders 鍵"}


def test_a_package_is_written_where_the_locale_knows_ascii_alone(folder: Path) -> None:
    run(CONNECTOR_HOST, "new", "warehouse", "--output", "geheim-Ü", cwd=folder, **ASCII)
    assert list((folder / "geheim-Ü").glob("*warehouse*"))
