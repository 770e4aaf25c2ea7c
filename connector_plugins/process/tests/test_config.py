"""The operator's section, and what the plugin brings because of it."""

from pathlib import Path
from typing import Any

import pytest

from connector_core.errors import SettingsError
from connector_plugin_process import plugin
from connector_plugin_process.config import ProcessConfig, read_config


@pytest.mark.parametrize("section", [{}, {"allow": []}, {"max_jobs": 3}])
def test_no_connector_comes_unless_executables_are_allowed(section: dict[str, Any]) -> None:
    assert list(plugin.register_connectors(section)) == []


def test_the_plugin_says_in_its_documentation_which_setting_it_wants() -> None:
    assert "`allow = [" in (plugin.__doc__ or "")


def test_one_connector_comes_when_an_executable_is_allowed() -> None:
    (connector,) = plugin.register_connectors({"allow": ["/bin/echo"]})
    assert connector.task_type_name == "process"


def test_an_unknown_key_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(SettingsError) as caught:
        plugin.register_connectors({"alow": ["/bin/echo"]})
    assert "'alow' (did you mean 'allow'?)" in caught.value.message
    for known in ProcessConfig.__struct_fields__:
        assert known in caught.value.message


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"allow": ["echo"]}, "allow.0: 'echo' is relative; write the absolute path"),
        ({"allow": "/bin/echo"}, "allow: "),
        (
            {"allow": ["/bin/echo", "/no/such/thing"]},
            "allow.1: '/no/such/thing' is not an executable file on this host",
        ),
        ({"allow": ["/bin"]}, "allow.0: '/bin' is not an executable file"),
        ({"allow": ["/etc/passwd"]}, "'/etc/passwd' is not an executable file"),
        ({"state": "here"}, "state: 'here' is relative"),
        ({"folders": ["data"]}, "folders.0: 'data' is relative"),
        ({"path": "/bin:bin"}, "path: 'bin' is relative"),
        ({"max_jobs": 0}, "max_jobs: "),
        ({"allow_env": ["COLOUR", "HOME"]}, "allow_env.1: 'HOME' is never set by callers"),
        ({"allow_env": ["LD_*"]}, "allow_env.0: 'LD_*' is never set by callers"),
        ({"max_job_bytes": 0}, "max_job_bytes: "),
        ({"grace_seconds": -1}, "grace_seconds: "),
        ({"keep_finished_seconds": "long"}, "keep_finished_seconds: "),
        ({"max_log_bytes": 0}, "max_log_bytes: "),
    ],
)
def test_an_impossible_value_is_refused_naming_its_key(section: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(section)
    assert "[plugins.process] " in caught.value.message
    assert complaint in caught.value.message


def test_the_state_is_below_the_folder_for_temporary_files_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/somewhere")
    assert read_config({}).state == Path("/somewhere")


def test_a_file_without_execute_permission_is_no_executable(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(0o644)
    with pytest.raises(SettingsError, match="not an executable file"):
        read_config({"allow": [str(program)]})
    program.chmod(0o755)
    assert read_config({"allow": [str(program)]}).allow == (program,)
