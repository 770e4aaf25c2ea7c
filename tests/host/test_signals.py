"""No signal ends a host without a word, whoever sends it, and no plugin keeps it from ending."""

import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.hosts import HostProcess, host_process

PLUGIN = """
import atexit, signal, time
from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl
{at_import}

class Idle(AsyncConnectorBase[ResourceMeta]):
    name = task_type_name = "idle"
    def start(self): {at_start}
    def create(self): return ResourceMeta()
    def get(self): return Resource(Phase.RUNNING)
    def delete(self): pass

@hookimpl
def register_connectors(): return [Idle()]
"""


def serving(folder: Path, at_import: str = "", at_start: str = "pass") -> AbstractContextManager[HostProcess]:
    """Serve a plugin that does these things."""
    (folder / "idle.py").write_text(PLUGIN.format(at_import=at_import, at_start=at_start))
    return host_process("--modules", "idle", "--allow-plugin", "idle", cwd=folder, PYTHONPATH=str(folder))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGHUP, "SIGHUP: no setting has changed"),
        (signal.SIGUSR1, "stacks of threads and tasks"),
        (signal.SIGUSR2, "signal ignored: SIGUSR2"),
        (signal.SIGALRM, "signal ignored: SIGALRM"),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_signal_that_is_not_for_stopping_is_told_and_ends_nothing(
    tmp_path: Path, number: signal.Signals, said: str
) -> None:
    with serving(tmp_path) as host:
        host.process.send_signal(number)
        host.wait_for(said)
        assert host.stop() == 0


def test_sigquit_says_where_threads_are_and_drains(tmp_path: Path) -> None:
    with serving(tmp_path) as host:
        assert host.stop(signal.SIGQUIT) == 0
        assert "stacks of threads and tasks" in host.output


def test_sighup_takes_up_the_levels_of_the_log_and_names_what_needs_a_restart(tmp_path: Path) -> None:
    settings = tmp_path / "connector-host.toml"
    settings.write_text("grace = 1\n")
    with serving(tmp_path) as host:
        settings.write_text('grace = 2\nlog_level = "debug"\n')
        host.process.send_signal(signal.SIGHUP)
        host.wait_for("SIGHUP: log levels applied")
        host.wait_for("restart the host to apply these changes: grace")
        settings.write_text("grace = [\n")
        host.process.send_signal(signal.SIGHUP)
        host.wait_for("SIGHUP: invalid settings; keeping the previous ones")
        assert host.stop() == 0


def test_an_alarm_that_a_plugin_has_set_ends_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, at_start="signal.setitimer(signal.ITIMER_REAL, 0.1)") as host:
        host.wait_for("SIGALRM")
        assert host.stop() == 0


def test_signals_that_a_plugin_has_blocked_reach_the_host(tmp_path: Path) -> None:
    with serving(tmp_path, at_import="signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())") as host:
        assert host.stop() == 0


def test_handlers_of_the_exit_that_hang_do_not_keep_it(tmp_path: Path) -> None:
    with serving(tmp_path, at_import="atexit.register(time.sleep, 3600)") as host:
        assert host.stop() == 0
        assert "the exit was held up" in host.output
