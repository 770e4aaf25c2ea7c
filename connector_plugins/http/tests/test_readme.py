"""What the README says holds."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from connector_plugin_http.config import Endpoint, HttpConfig, load_config
from connector_plugin_http.recipes import SHIPPED, shipped

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_settings_are_as_the_examples_write_them() -> None:
    for text in blocks("toml"):
        load_config(tomllib.loads(text)["plugins"]["http"])


def test_every_setting_has_a_row() -> None:
    rows = {
        name for row in re.findall(r"^\| (`[^|]*) \|", README, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert {*HttpConfig.__struct_fields__, *Endpoint.__struct_fields__} <= rows


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_has_a_row_with_its_outputs(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| .*$", README, re.MULTILINE)
    outputs = shipped(name if name != "airflow3" else "airflow").outputs
    assert name == "airflow3" or all(f"`{output}`" in row for output in outputs)


def test_five_minutes_from_nothing_to_a_run(tmp_path: Path) -> None:
    (program,) = (text for text in blocks("python") if "ThreadingHTTPServer" in text)
    # The same, on whatever port is free.
    program = program.replace("8099", "0").replace(
        'ThreadingHTTPServer(("127.0.0.1", 0), Render).serve_forever()',
        'server = ThreadingHTTPServer(("127.0.0.1", 0), Render)\nprint(server.server_port, flush=True)\nserver.serve_forever()',
    )
    (tmp_path / "render.py").write_text(program)
    (command,) = re.findall(r"connector-host run http_job --custom '(.*)'", README)
    with subprocess.Popen(
        [sys.executable, "render.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            settings = blocks("toml")[0].replace("8099", server.stdout.readline().strip())
            (tmp_path / "connector-host.toml").write_text(settings)
            host = str(Path(sys.executable).parent / "connector-host")
            done = subprocess.run(
                [host, "run", "http_job", "--custom", command, "--json"],
                cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
            )  # fmt: skip
        finally:
            server.kill()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["result"]["frames"] == 24
