"""The folders that flytekit makes in the temporary one: gone when a process has ended, whichever way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

IMPORT = """
from connector_plugin_flytekit.containment import import_flytekit
import_flytekit()
from connector_plugin_flytekit.context import default_context
default_context()
"""
PATHS = "import flytekit; print(flytekit.current_context().working_directory, flush=True)"


def python(code: str, place: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen(
        [sys.executable, "-c", f"{IMPORT}\n{code}"],
        env=environment,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_ends_leaves_none(tmp_path: Path) -> None:
    process = python(PATHS, tmp_path)
    output, _errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_next_process_removes_what_one_that_was_killed_has_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "connector-host-flytekit-of-somebody").mkdir()
    killed, running = python(f"{PATHS}\ninput()", tmp_path), python(f"{PATHS}\ninput()", tmp_path)
    assert killed.stdout is not None
    assert running.stdout is not None
    left, kept = (Path(one.stdout.readline().strip()) for one in (killed, running) if one.stdout is not None)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert left.exists()
    python("", tmp_path).communicate(timeout=60)
    assert not left.exists()
    assert kept.exists()
    running.communicate("\n", timeout=60)
    assert [folder.name for folder in tmp_path.iterdir()] == ["connector-host-flytekit-of-somebody"]


def test_a_forked_child_takes_nothing_with_it(tmp_path: Path) -> None:
    code = f"""
import os, sys
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(len(os.listdir({str(tmp_path)!r})))
"""
    output, _errors = python(code, tmp_path).communicate(timeout=60)
    assert output == "1\n"
