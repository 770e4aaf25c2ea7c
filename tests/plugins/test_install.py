"""`connector-host install` and `uninstall` in real environments: what is good stays, what is not leaves no trace."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.distributions import GOOD
from tests.support.environments import Venv, clean_environment, make_venv, run, try_to_run, uv
from tests.support.terminals import terminal
from tests.support.wheels import write_wheel

pytestmark = pytest.mark.slow


def plugin(*task_types: str, before: str = "") -> str:
    """Return the code of a plugin that serves these task types."""
    connectors = ", ".join(f"Job({task_type!r})" for task_type in task_types)
    return f"{before}\n{textwrap.dedent(GOOD)}\n@hookimpl\ndef register_connectors(): return [{connectors}]\n"


BROKEN = "raise RuntimeError('the licence server is away')"


@pytest.fixture(scope="module")
def venv(core_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """An environment with connector-core and nothing else."""
    return make_venv(tmp_path_factory.mktemp("install") / "venv", core_wheel)


class Operator:
    """Somebody with a host, in a folder of wheels."""

    def __init__(self, venv: Venv, folder: Path) -> None:
        self.venv = venv
        self.folder = folder

    def wheel(self, name: str, code: str, **more: Any) -> str:
        """Write a wheel, and return how it is named on the command line."""
        return write_wheel(self.folder, name, code, **more).name

    def has(self, *wheels: str) -> None:
        """Install wheels beforehand."""
        run(uv(), "pip", "install", "--quiet", "--no-index", "--python", self.venv.python, *wheels, cwd=self.folder)

    def do(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of `connector-host`."""
        return try_to_run(self.venv.script("connector-host"), *arguments, cwd=self.folder, **environment)

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin one."""
        return subprocess.Popen(
            [self.venv.script("connector-host"), *arguments],
            cwd=self.folder,
            env=clean_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def distributions(self) -> set[str]:
        """Return what is installed, as `name-version`."""
        return {path.name.removesuffix(".dist-info") for path in self.venv.path.glob("lib/*/*/*.dist-info")}

    def everything(self) -> dict[str, tuple[int, int, int]]:
        """Return all files that are installed; compiled code can be made again at any time."""
        return {
            str(path.relative_to(self.venv.path)): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode)
            for path in self.venv.path.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.name != ".lock"
        }


@pytest.fixture
def operator(venv: Venv, tmp_path: Path) -> Iterator[Operator]:
    """Somebody whose environment is the shared one; what is in it in the end is taken out."""
    operator = Operator(venv, tmp_path)
    before = operator.distributions()
    yield operator
    if names := [one.rsplit("-", 1)[0] for one in operator.distributions() - before]:
        run(uv(), "pip", "uninstall", "--quiet", "--python", venv.python, *names)


def test_several_are_installed_at_once_and_each_is_introduced(operator: Operator) -> None:
    tea = operator.wheel("connector-plugin-tea", plugin("green_tea", "black_tea"))
    mate = operator.wheel("mate", plugin("mate_task"), version="2.0")
    helper = operator.wheel("helper-lib", "", plugins=())
    done = operator.do("install", f"./{tea}", f"./{mate}[hot]", helper)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "+ connector-plugin-tea 1.0",
        "+ helper-lib 1.0",
        "+ mate 2.0",
        "plugin mate (mate 2.0) is loaded:",
        "    mate mate_task serves mate_task (async)",
        "plugin tea (connector-plugin-tea 1.0) is loaded:",
        "    connector_plugin_tea green_tea serves green_tea (async)",
        "    connector_plugin_tea black_tea serves black_tea (async)",
        "Restart running hosts to apply this change.",
    ]
    assert "warning: helper-lib 1.0 brings no plugin" in done.stderr
    again = operator.do("install", "mate")
    assert again.returncode == 0
    assert "= mate 2.0 was installed already (--upgrade looks for a newer one)" in again.stdout
    assert "restart" not in again.stdout


def test_a_plugin_that_fails_to_load_is_taken_out_again(operator: Operator) -> None:
    bad = operator.wheel("connector-plugin-bad", BROKEN)
    before = operator.everything()
    done = operator.do("install", bad)
    assert done.returncode == 1
    said = "plugin bad (connector-plugin-bad 1.0) fails to load: RuntimeError: the licence server is away"
    assert said in done.stderr
    assert f"for the traceback: connector-host install --verbose {bad}" in done.stderr
    assert "Nothing was changed: the environment is as it was." in done.stderr
    assert operator.everything() == before


def test_keep_leaves_what_fails_and_verbose_shows_what_the_installer_says(operator: Operator) -> None:
    done = operator.do("install", "--keep", "--verbose", operator.wheel("connector-plugin-bad", BROKEN))
    assert done.returncode == 0
    assert "plugin bad (connector-plugin-bad 1.0) FAILED to load: RuntimeError" in done.stdout
    assert "warning: plugin bad (connector-plugin-bad 1.0) fails to load" in done.stderr
    assert "+ connector-plugin-bad==1.0" in done.stderr
    assert "connector_plugin_bad-1.0" in operator.distributions()


def test_a_requirement_that_breaks_another_plugin_is_put_back_to_its_version(operator: Operator) -> None:
    helper = operator.wheel("helper-lib", "old = 1", plugins=(), files=[("shared/old.py", ""), ("shared/x/old.py", "")])
    tea = operator.wheel("connector-plugin-tea", plugin("tea", before="from helper_lib import old"))
    operator.has(helper, tea)
    (operator.folder / helper).unlink()  # nowhere to be found any more
    operator.wheel("helper-lib", "new = 2", version="2.0", plugins=(), files=[("shared/new/thing.py", "")])
    mate = operator.wheel("connector-plugin-mate", plugin("mate"), requires=["helper-lib>=2"])
    before = operator.everything()
    done = operator.do("install", "--verbose", mate, "--", "--no-index", "--find-links", ".")
    assert done.returncode == 1
    assert "plugin tea (connector-plugin-tea 1.0) fails to load: ImportError: cannot import name 'old'" in done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert "for the traceback" not in done.stderr
    assert operator.everything() == before
    assert not list(operator.venv.path.rglob("shared/new"))


def test_an_upgrade_that_serves_less_is_put_back(operator: Operator) -> None:
    operator.has(operator.wheel("connector-plugin-tea", plugin("green_tea", "black_tea")))
    operator.wheel("connector-plugin-tea", plugin("green_tea"), version="2.0")
    before = operator.everything()
    done = operator.do("install", "-U", "connector-plugin-tea", "--", "--no-index", "--find-links", ".")
    assert done.returncode == 1
    assert "plugin tea (connector-plugin-tea 2.0) would no longer serve the task type 'black_tea'" in done.stderr
    again = "install --keep --upgrade connector-plugin-tea -- --no-index --find-links ."
    assert f"to have it in spite of it: connector-host {again}" in done.stderr
    assert operator.everything() == before


def test_a_plugin_that_clashes_is_put_back_until_a_setting_decides(operator: Operator) -> None:
    operator.has(operator.wheel("connector-plugin-tea", plugin("hot_drink")))
    rival = operator.wheel("connector-plugin-mate", plugin("hot_drink"))
    clashing = operator.do("install", rival)
    assert clashing.returncode == 1
    assert "say which one serves it with --prefer hot_drink=mate or --prefer hot_drink=tea" in clashing.stderr
    assert "connector_plugin_mate-1.0" not in operator.distributions()
    assert operator.do("install", "--prefer", "hot_drink=mate", rival).returncode == 0


def test_what_cannot_be_found_changes_nothing_and_shows_the_installers_words(operator: Operator) -> None:
    done = operator.do("install", "connector-plugin-nowhere", "--", "--no-index")
    assert done.returncode == 1
    assert "connector-plugin-nowhere cannot be installed, and nothing was changed. uv ended with" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_do_not_hold_are_found_before_anything_is_installed(operator: Operator) -> None:
    (operator.folder / "connector-host.toml").write_text("nonsense = 1\n")
    done = operator.do("install", operator.wheel("connector-plugin-tea", plugin("tea")))
    assert done.returncode == 2
    assert "connector-host: 'nonsense' in connector-host.toml: unknown setting" in done.stderr
    assert "connector_plugin_tea-1.0" not in operator.distributions()


def slow_uv(folder: Path) -> tuple[str, Path]:
    """Return a uv that does not end when it has installed something, and the pipe that says so."""
    news = folder / "news"
    os.mkfifo(news)
    script = folder / "slow-uv"
    script.write_text(
        f'#!/bin/sh\n{uv()} "$@" || exit\ncase "$*" in *--dry-run*) ;; *) echo installed > {news}; exec sleep 1000;; esac\n'
    )
    script.chmod(0o755)
    return str(script), news


def test_ctrl_c_while_the_installer_is_at_work_puts_all_back(operator: Operator) -> None:
    before = operator.everything()
    script, news = slow_uv(operator.folder)
    process = operator.start("install", operator.wheel("connector-plugin-tea", plugin("tea")), UV=script)
    assert news.read_text() == "installed\n"
    assert operator.everything() != before
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted; the environment is as it was" in output
    assert operator.everything() == before


def test_a_signal_while_the_new_plugin_is_loaded_puts_all_back(operator: Operator) -> None:
    before = operator.everything()
    news = operator.folder / "news"
    os.mkfifo(news)
    code = f"import threading\nopen({str(news)!r}, 'w').write('loading')\nthreading.Event().wait()\n"
    process = operator.start("install", operator.wheel("connector-plugin-tea", code))
    assert news.read_text() == "loading"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert operator.everything() == before


def test_two_that_change_one_environment_go_one_after_the_other(operator: Operator) -> None:
    script, news = slow_uv(operator.folder)
    first = operator.start("install", operator.wheel("connector-plugin-tea", plugin("tea")), UV=script)
    assert news.read_text() == "installed\n"
    second = operator.start("install", operator.wheel("connector-plugin-mate", plugin("mate")))
    assert second.stdout is not None
    assert "waiting for another change of this environment to end" in second.stdout.readline()
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert "connector_plugin_tea-1.0" not in operator.distributions()


def test_a_plugin_goes_by_its_name_and_what_it_required_stays(operator: Operator) -> None:
    helper = operator.wheel("helper-lib", "", plugins=())
    operator.has(helper, operator.wheel("drinks", plugin("t"), plugins=["tea", "mate"], requires=["helper-lib"]))
    done = operator.do("uninstall", "tea")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "drinks 1.0 goes: plugins mate, tea",
        "- drinks 1.0",
        "What only it needed was left alone: helper-lib.",
        "Restart running hosts to apply this change.",
    ]
    assert operator.distributions() >= {"helper_lib-1.0"}


def test_a_plugin_that_another_one_needs_stays(operator: Operator) -> None:
    base = operator.wheel("connector-plugin-tea", plugin("tea"))
    more = operator.wheel("connector-plugin-mate", plugin("mate", before="import connector_plugin_tea"))
    operator.has(base, more)
    before = operator.everything()
    done = operator.do("uninstall", "connector_plugin.tea")
    assert done.returncode == 1
    assert "plugin mate (connector-plugin-mate 1.0) fails to load: ModuleNotFoundError" in done.stderr
    assert "to have it in spite of it: connector-host uninstall --keep connector_plugin.tea" in done.stderr
    assert operator.everything() == before


def test_at_a_terminal_uninstall_asks_first(operator: Operator) -> None:
    operator.has(operator.wheel("connector-plugin-tea", plugin("tea")))
    with terminal(operator.venv.script("connector-host"), "uninstall", "tea", cwd=operator.folder) as screen:
        screen.wait_for(r"Uninstall\?")
        screen.type("n\n")
        assert screen.wait() == 1
    assert "Nothing was changed." in screen.text
    assert "connector_plugin_tea-1.0" in operator.distributions()


@pytest.fixture
def without_uv(tmp_path: Path) -> str:
    """A PATH on which there is no uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def test_pip_does_it_where_there_is_no_uv(core_wheel: Path, without_uv: str, tmp_path: Path) -> None:
    run(uv(), "venv", "--quiet", "--seed", "--python", sys.executable, tmp_path / "venv")
    venv = Venv(tmp_path / "venv")
    venv.install(core_wheel)
    operator = Operator(venv, tmp_path)
    operator.has(operator.wheel("connector-plugin-tea", plugin("tea")))
    before = operator.everything()
    operator.wheel("connector-plugin-tea", BROKEN, version="2.0")
    options = ("--", "--no-index", "--find-links", ".")
    bad = operator.do("install", "--upgrade", "connector-plugin-tea", *options, PATH=without_uv, UV="")
    assert bad.returncode == 1
    assert "installing connector-plugin-tea with pip" in bad.stderr
    assert "plugin tea (connector-plugin-tea 2.0) fails to load: RuntimeError" in bad.stderr
    assert operator.everything() == before
    gone = operator.do("uninstall", "tea", PATH=without_uv, UV="")
    assert gone.returncode == 0, gone.stderr
    assert "connector_plugin_tea-1.0" not in operator.distributions()


def test_without_uv_and_pip_it_says_so(operator: Operator, without_uv: str) -> None:
    done = operator.do("install", "connector-plugin-tea", PATH=without_uv, UV="")
    assert done.returncode == 1
    assert "there is neither uv nor pip to install with: put uv on PATH, or pip into" in done.stderr
