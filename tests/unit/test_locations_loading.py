"""Locations are checked before anything starts, and are told what is theirs and nothing else."""

from typing import Any

import pytest

from connector_core.errors import SettingsError
from connector_core.locations.loading import check_locations, sections_of
from connector_core.settings import Settings
from connector_core.tables import read_table

NAMES = ("flytekit", "flytekit-extra", "sleep", "My-Plugin")


def test_a_location_is_told_the_sections_of_its_plugins_and_of_what_they_bring_alone() -> None:
    sections: dict[str, dict[str, Any]] = {
        "flytekit": {"a": 1},
        "flytekit/sensor": {"b": 2},
        "flytekit_webhook": {"c": 3},
        "flytekit-extra": {"password": "of another"},
        "sleep": {"password": "of another"},
    }
    own = sections_of(["flytekit"], NAMES, sections)
    assert own == {"flytekit": {"a": 1}, "flytekit/sensor": {"b": 2}, "flytekit_webhook": {"c": 3}}
    assert sections_of(["My-Plugin"], NAMES, {"my_plugin": {"d": 4}}) == {"My-Plugin": {"d": 4}}
    assert sections_of(["flytekit"], NAMES, {"flytekit_extra": {"password": "of another"}}) == {}


def test_locations_that_can_be_made_are_let_through() -> None:
    check_locations(settings(a=["flytekit"], b=["sleep"]), NAMES)
    check_locations(Settings(), ())


@pytest.mark.parametrize(
    ("locations", "problem"),
    [
        ({"a": ["sleep"], "b": ["sleep"]}, "plugin 'sleep' is in the locations 'a' and 'b'"),
        ({"a": ["slep"]}, "location 'a' names the unknown plugin 'slep': did you mean 'sleep'"),
        ({"a": []}, "location 'a' has no plugins"),
    ],
)
def test_locations_that_cannot_be_made_are_refused(locations: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        check_locations(settings(**locations), NAMES)


@pytest.mark.parametrize(
    ("written", "size"),
    [(5, 5), ("5", 5), ("400MB", 400_000_000), ("1GiB", 2**30), ("2 kB", 2000), ("3MiB", 3 * 2**20)],
)
def test_a_limit_of_memory_is_bytes_or_a_size(written: object, size: int) -> None:
    table = read_table(Settings, {"locations": {"a": {"memory_limit": written}}}, "the settings")
    assert table.locations["a"].memory_limit == size


@pytest.mark.parametrize("written", ["", "many", "4 mb", "-1", 0, "1.5GB"])
def test_a_limit_of_memory_that_is_not_one_is_refused(written: object) -> None:
    with pytest.raises(SettingsError, match="memory_limit"):
        read_table(Settings, {"locations": {"a": {"memory_limit": written}}}, "the settings")


def settings(**locations: list[str]) -> Settings:
    tables = {name: {"plugins": plugins} for name, plugins in locations.items()}
    return read_table(Settings, {"locations": tables}, "the settings")
