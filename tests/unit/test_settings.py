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
        ("prot = 1\n", "'prot' in connector-host.toml: unknown setting; did you mean 'port'?"),
        ("port = 'x'\n", "'port' in connector-host.toml: must be a whole number"),
        ("[deadlines]\ncreate = -1\n", "'deadlines.create' in connector-host.toml: must be greater than 0"),
        (
            "[deadlines]\ncraete = 1\n",
            "'deadlines.craete' in connector-host.toml: unknown setting; did you mean 'create'?",
        ),
        (
            "[deadlines]\nstart = 1\n",
            "'deadlines.start' in connector-host.toml: unknown setting; there are create, delete, do",
        ),
        ("[deadlines]\nget = true\n", "'deadlines.get' in connector-host.toml: must be a number"),
        ("[deadlines]\nget = 'x'\n", "'deadlines.get' in connector-host.toml: must be a number"),
        ("[deadlines]\nget = 0\n", "'deadlines.get' in connector-host.toml: must be greater than 0"),
        ("[deadlines]\nget = inf\n", "'deadlines.get' in connector-host.toml: must be finite"),
        (
            "[limits.'a/b'.deadlines]\nfoo = 1\n",
            "'limits.a/b.deadlines.foo' in connector-host.toml: unknown setting; there are create, delete, do, get, get_logs",
        ),
        (
            "[limits.a.deadlines]\nget = true\n",
            "'limits.a.deadlines.get' in connector-host.toml: must be a number",
        ),
        ("[limits.a.deadlines]\ndo = -1\n", "'limits.a.deadlines.do' in connector-host.toml: must be greater"),
        ("port = \n", "is not TOML"),
        ("[prefer]\n'a b' = 'x'\n", "is not a task category"),
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
    with pytest.raises(SettingsError, match="CONNECTOR_HOST__RIDE_OUT is not JSON"):
        load_settings()


def test_a_key_of_what_another_variable_sets_as_a_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT", "much")
    monkeypatch.setenv("CONNECTOR_HOST__RIDE_OUT__SECONDS", "5")
    with pytest.raises(SettingsError, match="RIDE_OUT__SECONDS is a key of 'ride_out', which another"):
        load_settings()


def test_a_mistake_in_a_variable_is_not_blamed_on_the_file_that_has_the_same_table(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty_folder, "[deadlines]\ncreate = 5\nget = 'late'\ndo = 'x'\n")
    monkeypatch.setenv("CONNECTOR_HOST__DEADLINES__GET", "soon")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value).splitlines() == [
        "the environment variable CONNECTOR_HOST__DEADLINES__GET: must be a number",
        "'deadlines.do' in connector-host.toml: must be a number",
    ]


def test_a_mistake_in_the_file_is_not_blamed_on_a_variable_of_the_same_table(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty_folder, "[deadlines]\ncreate = 'x'\n")
    monkeypatch.setenv("CONNECTOR_HOST__DEADLINES", '{"get": 5}')
    with pytest.raises(SettingsError, match=r"^'deadlines.create' in connector-host.toml: must be a number$"):
        load_settings()


def test_a_mistake_in_a_variable_with_a_whole_table_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS", '{"one": {"deadlines": {"get": -1}}}')
    with pytest.raises(
        SettingsError, match=r"^'one.deadlines.get' in the environment variable CONNECTOR_HOST__LIMITS: "
    ):
        load_settings()


def test_a_mistake_in_a_flag_is_named_with_the_flag(empty_folder: Path) -> None:
    write(empty_folder, "http_port = 1\n")
    with pytest.raises(SettingsError, match=r"^--http-port: must be a whole number$"):
        load_settings({"http_port": "x"})


@pytest.mark.parametrize(
    ("written", "value", "place"),
    [
        ("[deadlines]\n", {}, ""),
        ("workers = {}\n", {}, "'workers' in connector-host.toml: must be a whole number"),
        ("[workers]\na = 1\n", {}, "'workers' in connector-host.toml: must be a whole number"),
        ("modules = [1]\n", {}, "'modules.0' in connector-host.toml: must be a text"),
        ("deadlines = 1\n", {}, "'deadlines' in connector-host.toml: must be a table"),
    ],
)
def test_tables_and_lists_in_the_wrong_place_are_named(
    empty_folder: Path, written: str, value: dict[str, str], place: str
) -> None:
    write(empty_folder, written)
    if not place:
        assert load_settings() == Settings()
        return
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value) == place


def test_an_empty_table_in_a_variable_leaves_those_of_the_file(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty_folder, "[deadlines]\nget = 5\n")
    monkeypatch.setenv("CONNECTOR_HOST__DEADLINES", "{}")
    assert load_settings().deadlines.get == 5


@pytest.mark.parametrize("name", ["My-Plugin", "my.plugin", "My/Plugin", "MY_PLUGIN", "my plugin"])
def test_variables_reach_sections_of_the_file_whatever_their_names_are_made_of(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(empty_folder, f"[limits.'{name}']\nqueue = 1\n[plugins.'{name}']\nMax-Rows = 1\n")
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS__MY_PLUGIN__WORKERS", "3")
    monkeypatch.setenv("CONNECTOR_HOST__PLUGINS__MY_PLUGIN__MAX_ROWS", "2")
    settings = load_settings()
    assert list(settings.limits) == [name]
    assert (settings.limits[name].queue, settings.limits[name].workers) == (1, 3)
    assert settings.plugins == {name: {"Max-Rows": "2"}}


def test_a_name_that_is_spelt_so_goes_before_others(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(empty_folder, "[limits.a_b]\n[limits.a-b]\n")
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS__A_B__WORKERS", "3")
    settings = load_settings()
    assert {name: limits.workers for name, limits in settings.limits.items()} == {"a_b": 3, "a-b": None}


def test_a_variable_that_may_be_about_two_sections_is_refused_with_the_way_out(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty_folder, "[limits.'a.b']\n[limits.a-b]\n")
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS__A_B__WORKERS", "3")
    with pytest.raises(SettingsError, match=r"'a_b' may be any of 'a-b', 'a.b'; write the table as JSON"):
        load_settings()


def test_a_variable_with_a_whole_table_and_one_with_a_key_of_it_are_about_one_section(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS", '{"My-Plugin/Query": {"queue": 1}}')
    monkeypatch.setenv("CONNECTOR_HOST__LIMITS__MY_PLUGIN_QUERY__WORKERS", "3")
    (limits,) = load_settings().limits.items()
    assert (limits[0], limits[1].queue, limits[1].workers) == ("My-Plugin/Query", 1, 3)


def test_a_settings_file_may_begin_with_a_byte_order_mark(empty_folder: Path) -> None:
    (empty_folder / "connector-host.toml").write_bytes(b"\xef\xbb\xbfport = 1\n")
    assert load_settings().port == 1


def test_a_settings_file_of_another_encoding_is_refused_with_the_way_out(empty_folder: Path) -> None:
    (empty_folder / "connector-host.toml").write_bytes("host = 'größe'\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"connector-host.toml is not UTF-8: .*; save it as UTF-8"):
        load_settings()
