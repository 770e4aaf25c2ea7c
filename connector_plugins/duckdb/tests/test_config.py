"""The operator's section."""

import pytest

from connector_core.errors import SettingsError
from connector_plugin_duckdb.config import load_config


def test_an_empty_section_is_the_defaults() -> None:
    config = load_config({})
    assert config.allowed_directories == ()
    assert config.allowed_uris == ()
    assert config.memory_limit == 10**9


def test_sizes_have_units() -> None:
    config = load_config({"memory_limit": "512MB", "disk_limit": "1GiB", "inline_bytes": 1000})
    assert (config.memory_limit, config.disk_limit, config.inline_bytes) == (512 * 10**6, 2**30, 1000)


def test_an_unknown_key_is_named_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(SettingsError) as caught:
        load_config({"memory_limits": "1GB"})
    assert "[plugins.duckdb]: unknown key 'memory_limits' (did you mean 'memory_limit'?); known are " in str(
        caught.value
    )
    assert "allowed_directories, allowed_uris, disk_limit" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("memory_limit", "much"),
        ("memory_limit", 0),
        ("disk_limit", -1),
        ("threads", 0),
        ("threads", "many"),
        ("max_concurrent", 0),
        ("inline_rows", 0),
        ("inline_bytes", "5MB"),
        ("allowed_directories", ["relative/folder"]),
        ("allowed_directories", "/one/string"),
        ("staging_directory", "relative"),
        ("allowed_uris", ["file:///data"]),
        ("storage_options", {"ftp": {}}),
    ],
)
def test_an_impossible_value_is_an_error_that_names_the_key(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"\[plugins.duckdb\]: {key}"):
        load_config({key: value})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"threads: .*; inline_rows: "):
        load_config({"threads": 0, "inline_rows": 0})


def test_credentials_are_shown_neither_by_the_settings_nor_by_an_error() -> None:
    secret = {"key": "AKIA", "secret": "hush"}
    assert "hush" not in repr(load_config({"storage_options": {"s3": secret}}))
    with pytest.raises(SettingsError) as caught:
        load_config({"storage_options": {"s4": secret}})
    assert "hush" not in str(caught.value)
