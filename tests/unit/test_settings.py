"""Settings: flag, then environment, then file, then default; and every mistake named where it stands."""

from pathlib import Path

import pytest

from connector_core.errors import SettingsError
from connector_core.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "connector-host.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_defaults_are_those_of_todays_servers_on_loopback() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.http_port, settings.workers) == ("127.0.0.1", 8000, 9090, 10)


def test_a_flag_goes_before_the_environment_the_file_and_the_default(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty_folder, "port = 1\nhttp_port = 1\nworkers = 1\n")
    monkeypatch.setenv("CONNECTOR_HOST__PORT", "2")
    monkeypatch.setenv("CONNECTOR_HOST__HTTP_PORT", "2")
    settings = load_settings({"port": 3, "http_port": None})
    assert (settings.port, settings.http_port, settings.workers, settings.grace) == (3, 2, 1, 30)


def test_a_flag_may_be_zero_or_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__STRICT", "true")
    settings = load_settings({"port": 0, "strict": False})
    assert (settings.port, settings.strict) == (0, False)


def test_the_file_may_be_named_by_flag_or_environment(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(empty_folder, "port = 1\n")
    other = write(empty_folder, "port = 2\n", "other.toml")
    third = write(empty_folder, "port = 3\n", "third.toml")
    monkeypatch.setenv("CONNECTOR_HOST__CONFIG", str(other))
    assert load_settings().port == 2
    assert load_settings(file=third).port == 3


def test_lists_and_preferences_may_be_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__MODULES", "a.b, c")
    monkeypatch.setenv("CONNECTOR_HOST__PREFER", "spark=one,ray@0=two")
    settings = load_settings()
    assert settings.modules == ("a.b", "c")
    assert settings.prefer == {"spark": "one", "ray": "two"}


@pytest.mark.parametrize(
    "written", ["'warning,botocore=ERROR'", "['warning', 'botocore=error']", "{root = 'warning', botocore = 'error'}"]
)
def test_levels_may_be_written_as_a_text_a_list_or_a_table(empty_folder: Path, written: str) -> None:
    write(empty_folder, f"log_level = {written}\n")
    assert load_settings().log_level == {"root": "warning", "botocore": "error"}


def test_tables_of_the_file_and_nested_variables_are_merged(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        empty_folder,
        '[deadlines]\ncreate = 5\nget = 6\n[plugins.process]\nallow = ["/bin/echo"]\n[prefer]\nspark = "one"\n',
    )
    monkeypatch.setenv("CONNECTOR_HOST__DEADLINES__GET", "7")
    monkeypatch.setenv("CONNECTOR_HOST__PLUGINS__DUCKDB__MEMORY_LIMIT", "1GB")
    settings = load_settings()
    assert (settings.deadlines.create, settings.deadlines.get) == (5, 7)
    assert settings.plugins == {"process": {"allow": ["/bin/echo"]}, "duckdb": {"memory_limit": "1GB"}}
    assert settings.prefer == {"spark": "one"}


def test_a_preference_may_be_about_a_connectors_name(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(empty_folder, "[prefer]\n'spark@0' = 'one'\n'name:My Query @ 1, 2' = 'two'\n")
    assert load_settings().prefer == {"spark": "one", "name:My Query @ 1, 2": "two"}
    monkeypatch.setenv("CONNECTOR_HOST__PREFER", "spark@1=one, name:My Query=two")
    assert load_settings().prefer == {"spark@1": "one", "name:My Query": "two"}
    assert load_settings({"prefer": ["name:My Query=one"]}).prefer == {"name:My Query": "one"}


def test_lists_in_a_plugins_section_may_come_as_json_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__PLUGINS__PROCESS__ALLOW", '["/bin/echo"]')
    assert load_settings().plugins == {"process": {"allow": ["/bin/echo"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1\n", "'prot' in connector-host.toml is no setting (did you mean 'port'?)"),
        ("port = 'x'\n", "'port' in connector-host.toml: must be a whole number"),
        ("[deadlines]\ncreate = -1\n", "'deadlines.create' in connector-host.toml: must be greater than 0"),
        ("[deadlines]\ncraete = 1\n", "'deadlines.craete' in connector-host.toml is no setting"),
        (
            "[deadlines]\nstart = 1\n",
            "'deadlines.start' in connector-host.toml is no setting; there are create, delete, do",
        ),
        ("[deadlines]\nget = true\n", "'deadlines.get' in connector-host.toml: must be a number"),
        ("[deadlines]\nget = 'x'\n", "'deadlines.get' in connector-host.toml: must be a number"),
        ("[deadlines]\nget = 0\n", "'deadlines.get' in connector-host.toml: must be greater than 0"),
        ("[deadlines]\nget = inf\n", "'deadlines.get' in connector-host.toml: must be finite"),
        (
            "[limits.'a/b'.deadlines]\nfoo = 1\n",
            "'limits.a/b.deadlines.foo' in connector-host.toml is no setting; there are create, delete, do, get, get_logs",
        ),
        (
            "[limits.a.deadlines]\nget = true\n",
            "'limits.a.deadlines.get' in connector-host.toml: must be a number",
        ),
        ("[limits.a.deadlines]\ndo = -1\n", "'limits.a.deadlines.do' in connector-host.toml: must be greater"),
        ("port = \n", "is not TOML"),
        ("[prefer]\n'a b' = 'x'\n", "is no task category"),
        (
            "log_level = 'loud'\n",
            "'log_level' in connector-host.toml: write LEVEL or LOGGER=LEVEL, with one of debug, info",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(empty_folder: Path, text: str, message: str) -> None:
    write(empty_folder, text)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert message in str(raised.value)


def test_a_mistake_in_the_environment_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__DEADLINES__GET", "soon")
    with pytest.raises(SettingsError, match="variable CONNECTOR_HOST__DEADLINES__GET: must be a number"):
        load_settings()


def test_a_value_that_was_refused_is_not_repeated(empty_folder: Path) -> None:
    write(empty_folder, "port = 'hunter2'\n")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Settings().port = 1  # type: ignore[misc]


def test_a_whole_table_may_stand_in_one_variable_and_its_keys_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT", '{"failures": 3, "seconds": 4}')
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT__SECONDS", "5")
    ride_out = load_settings().ride_out
    assert (ride_out.failures, ride_out.seconds) == (3, 5)


def test_a_table_that_is_no_json_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT", "{failures: 3")
    with pytest.raises(SettingsError, match="CONNECTOR_HOST__RIDE_OUT is no JSON"):
        load_settings()


def test_a_key_of_what_another_variable_sets_as_a_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT", "much")
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT__SECONDS", "5")
    with pytest.raises(SettingsError, match="RIDE_OUT__SECONDS is a key of 'ride_out', which another"):
        load_settings()
