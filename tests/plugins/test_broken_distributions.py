"""Damaged distributions on the path: each is named with its folder, and costs no other plugin anything."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import MetadataPathFinder

from connector_core.errors import PluginLoadError
from connector_core.plugins import (
    Discovered,
    InstalledPoints,
    PluginLoadResult,
    check_required,
    discover,
    entry_points_of,
    installed_plugins,
    load_discovered,
    load_plugins,
    refuse_shared_names,
)
from connector_core.settings import Settings
from tests.support.distributions import SitePackages
from tests.support.environments import try_to_run

GROUP = "connector_core.plugins"
POINTS = f"[{GROUP}]\nbroken = broken_module\n"
METADATA = "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
HOST = Path(sys.executable).with_name("connector-host")

Files = dict[str, str | bytes]

UNNAMED: dict[str, tuple[Files, str]] = {
    "no METADATA": ({"broken-1.0.dist-info/entry_points.txt": POINTS}, "METADATA is missing or empty"),
    "an empty METADATA": (
        {"broken-1.0.dist-info/METADATA": "", "broken-1.0.dist-info/entry_points.txt": POINTS},
        "METADATA is missing or empty",
    ),
    "no Name": (
        {
            "broken-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nVersion: 1.0\n\nName: body\n",
            "broken-1.0.dist-info/entry_points.txt": POINTS,
        },
        "METADATA has no Name",
    ),
}
"""Nobody knows what these are, so that what they bring is not loaded."""

READABLE: dict[str, tuple[Files, str]] = {
    "METADATA in latin-1": (
        {
            "broken-1.0.dist-info/METADATA": f"{METADATA}Author: Jos\xe9\n".encode("latin-1"),
            "broken-1.0.dist-info/entry_points.txt": POINTS,
        },
        "METADATA is not UTF-8 (byte 0xe9)",
    ),
    "a byte order mark": (
        {"broken-1.0.dist-info/METADATA": METADATA, "broken-1.0.dist-info/entry_points.txt": f"\ufeff{POINTS}"},
        "entry_points.txt begins with a byte order mark",
    ),
    "a comment in latin-1": (
        {
            "broken-1.0.dist-info/METADATA": METADATA,
            "broken-1.0.dist-info/entry_points.txt": f"# caf\xe9\n{POINTS}".encode("latin-1"),
        },
        "entry_points.txt is not UTF-8 (byte 0xe9)",
    ),
    "an entry point twice": (
        {
            "broken-1.0.dist-info/METADATA": METADATA,
            "broken-1.0.dist-info/entry_points.txt": f"{POINTS}broken = broken_module\n",
        },
        "entry point broken stands 2 times in entry_points.txt",
    ),
    "a line without =": (
        {
            "broken-1.0.dist-info/METADATA": METADATA,
            "broken-1.0.dist-info/entry_points.txt": f"{POINTS}\njust-a-word\n",
        },
        "entry_points.txt has a line without '=': 'just-a-word'",
    ),
}
"""What these bring is known, so it is loaded."""

OTHERS: dict[str, tuple[Files, str]] = {
    "an empty folder": ({".dist-info/x": ""}, "METADATA is missing or empty"),
    "a line without = of somebody else": (
        {
            "other-1.0.dist-info/METADATA": METADATA.replace("broken", "other"),
            "other-1.0.dist-info/entry_points.txt": "[console_scripts]\njust-a-word\n",
        },
        "entry_points.txt has a line without '=': 'just-a-word'",
    ),
    "latin-1 of somebody else": (
        {
            "other-1.0.dist-info/METADATA": METADATA.replace("broken", "other"),
            "other-1.0.dist-info/entry_points.txt": "[console_scripts]\ncaf\xe9 = m:f\n".encode("latin-1"),
        },
        "entry_points.txt is not UTF-8 (byte 0xe9)",
    ),
    "a leftover of pip": (
        {"~roken-0.9.dist-info/METADATA": METADATA, "~roken-0.9.dist-info/entry_points.txt": POINTS},
        "pip left it behind when it was interrupted",
    ),
}
"""These bring nothing that could be loaded."""

ALL = {**UNNAMED, **READABLE, **OTHERS}


@pytest.fixture
def broken_site(site: SitePackages) -> SitePackages:
    """A folder with two good plugins, and the module that damaged distributions bring."""
    site.good("aaa")
    site.good("zzz")
    code = "from connector_core import hookimpl\n@hookimpl\ndef register_connectors(): return []\n"
    (site.folder / "broken_module.py").write_text(code)
    sys.modules.pop("broken_module", None)
    return site


def write(site: SitePackages, files: Files) -> str:
    """Write a damaged distribution and return its folder."""
    for name, data in files.items():
        path = site.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    MetadataPathFinder.invalidate_caches()
    return str(site.folder / next(iter(files)).split("/")[0])


def find(site: SitePackages) -> InstalledPoints:
    return entry_points_of(GROUP, [str(site.folder)])


def load(site: SitePackages) -> PluginLoadResult:
    sources = installed_plugins([str(site.folder)])
    refuse_shared_names(sources)
    return load_plugins(sources)


def names(result: PluginLoadResult) -> dict[str, list[str]]:
    return {state: [plugin.identity.name for plugin in plugins] for state, plugins in result.by_state.items()}


@pytest.mark.parametrize(("files", "reason"), ALL.values(), ids=ALL)
def test_a_damaged_distribution_is_named_with_its_folder(broken_site: SitePackages, files: Files, reason: str) -> None:
    folder = write(broken_site, files)
    (broken,) = find(broken_site).broken
    assert (broken.path, broken.reason) == (folder, reason)


@pytest.mark.parametrize(("files", "reason"), UNNAMED.values(), ids=UNNAMED)
def test_a_plugin_of_a_distribution_without_a_name_fails_alone(
    broken_site: SitePackages, files: Files, reason: str
) -> None:
    folder = write(broken_site, files)
    result = load(broken_site)
    assert names(result) == {"loaded": ["aaa", "zzz"], "failed": ["broken"], "skipped": []}
    assert result.failed[0].reason == f"{folder}: {reason}; reinstall the distribution, or delete the folder"
    assert (result.failed[0].identity.distribution, result.failed[0].identity.version) == ("broken", "1.0")
    assert "broken_module" not in sys.modules


@pytest.mark.parametrize(("files", "reason"), READABLE.values(), ids=READABLE)
def test_a_plugin_that_can_be_read_all_the_same_is_served(broken_site: SitePackages, files: Files, reason: str) -> None:
    write(broken_site, files)
    result = load(broken_site)
    assert names(result) == {"loaded": ["aaa", "broken", "zzz"], "failed": [], "skipped": []}
    assert str(result.loaded[1].identity) == "'broken' (distribution broken 1.0)"


@pytest.mark.parametrize(("files", "reason"), OTHERS.values(), ids=OTHERS)
def test_what_brings_no_plugin_leaves_the_others(broken_site: SitePackages, files: Files, reason: str) -> None:
    write(broken_site, files)
    assert names(load(broken_site)) == {"loaded": ["aaa", "zzz"], "failed": [], "skipped": []}


def test_of_two_versions_in_one_folder_the_newer_one_is_served_and_both_are_named(broken_site: SitePackages) -> None:
    for version in ("10.0", "9.0"):
        metadata = METADATA.replace("1.0", version)
        write(
            broken_site,
            {f"broken-{version}.dist-info/METADATA": metadata, f"broken-{version}.dist-info/entry_points.txt": POINTS},
        )
    found = find(broken_site)
    assert [(point.name, point.version) for point in found.points if point.name == "broken"] == [("broken", "10.0")]
    assert sorted(Path(broken.path).name for broken in found.broken) == [
        "broken-10.0.dist-info",
        "broken-9.0.dist-info",
    ]
    assert all("one of 2 of this name in its folder" in broken.reason for broken in found.broken)


def test_a_half_removed_version_gives_way_to_a_whole_older_one(broken_site: SitePackages) -> None:
    write(broken_site, {"broken-2.0.dist-info/entry_points.txt": POINTS})
    write(broken_site, {"broken-1.0.dist-info/METADATA": METADATA, "broken-1.0.dist-info/entry_points.txt": POINTS})
    assert names(load(broken_site))["loaded"] == ["aaa", "broken", "zzz"]


def test_one_name_in_two_folders_of_the_path_is_the_first_ones_without_a_word(
    broken_site: SitePackages, tmp_path: Path
) -> None:
    second = SitePackages(tmp_path / "second")
    second.folder.mkdir()
    second.good("aaa", version="2.0")
    path = [str(broken_site.folder), str(second.folder), str(broken_site.folder)]
    found = entry_points_of(GROUP, path)
    assert [(point.name, point.version) for point in found.points] == [("aaa", "1.0"), ("zzz", "1.0")]
    assert found.broken == ()


def test_an_entry_point_with_two_values_fails_alone_naming_both(broken_site: SitePackages) -> None:
    points = f"{POINTS}broken = another_module\n"
    folder = write(
        broken_site, {"broken-1.0.dist-info/METADATA": METADATA, "broken-1.0.dist-info/entry_points.txt": points}
    )
    result = load(broken_site)
    assert names(result) == {"loaded": ["aaa", "zzz"], "failed": ["broken"], "skipped": []}
    assert f"stands for broken_module and for another_module in {folder}" in result.failed[0].reason


def test_a_value_that_is_not_a_module_fails_alone(broken_site: SitePackages) -> None:
    for value in ("my-plugin.connector", "", "module:"):
        points = f"[{GROUP}]\nbroken = {value}\n"
        write(broken_site, {"broken-1.0.dist-info/METADATA": METADATA, "broken-1.0.dist-info/entry_points.txt": points})
        assert names(load(broken_site)) == {"loaded": ["aaa", "zzz"], "failed": ["broken"], "skipped": []}


def test_a_distribution_without_a_name_takes_no_name_from_another(broken_site: SitePackages) -> None:
    write(broken_site, {"damaged-1.0.dist-info/entry_points.txt": f"[{GROUP}]\naaa = damaged_module\n"})
    result = load(broken_site)
    assert names(result) == {"loaded": ["aaa", "zzz"], "failed": ["aaa"], "skipped": []}


def test_a_finder_of_somebody_else_that_fails_costs_nothing_but_what_it_would_have_found(
    broken_site: SitePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        @staticmethod
        def find_spec(*_wanted: object) -> None:
            return None

        @staticmethod
        def find_distributions(*_context: object) -> list[object]:
            raise RuntimeError("no such disk")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    found = find(broken_site)
    assert [point.name for point in found.points] == ["aaa", "zzz"]
    assert [broken.reason for broken in found.broken] == ["a finder failed with RuntimeError: no such disk"]


def test_strict_refuses_a_damaged_distribution_naming_its_folder(broken_site: SitePackages) -> None:
    folder = write(broken_site, OTHERS["latin-1 of somebody else"][0])
    settings = Settings(allow_plugin=("aaa", "zzz"))
    result = load_discovered(Discovered((), find(broken_site).broken), settings)
    check_required(result, settings)
    with pytest.raises(PluginLoadError, match=folder):
        check_required(result, Settings(strict=True))


def test_discovery_of_a_host_names_the_damaged_too(broken_site: SitePackages) -> None:
    folder = write(broken_site, OTHERS["an empty folder"][0])
    found = discover(Settings(modules=("a_module",)))
    assert {"aaa", "zzz", "a_module"} <= {source.identity.name for source in found.sources}
    assert folder in [broken.path for broken in found.broken]


@pytest.mark.parametrize(("files", "reason"), ALL.values(), ids=ALL)
def test_the_commands_say_it_and_exit_as_a_host_would(broken_site: SitePackages, files: Files, reason: str) -> None:
    folder = write(broken_site, files)
    more: dict[str, Any] = {
        "PYTHONPATH": str(broken_site.folder),
        "CONNECTOR_HOST__ALLOW_PLUGIN": "aaa,zzz,broken",
        "CONNECTOR_HOST__BLOCK_PLUGIN": "",
    }
    listed = try_to_run(HOST, "list", "--json", **more)
    assert listed.returncode == 0, listed.stderr
    described = json.loads(listed.stdout)
    assert {"path": folder, "reason": reason} in described["broken_distributions"]
    assert {plugin["name"]: plugin["state"] for plugin in described["plugins"]}["aaa"] == "loaded"
    doctor = try_to_run(HOST, "doctor", **more)
    assert doctor.returncode == 1
    assert f"{folder}: {reason}" in doctor.stdout
    strict = try_to_run(HOST, "serve", "--strict", "--port", "0", "--http-port", "0", **more)
    assert strict.returncode == 3
    assert f"{folder}: {reason}" in strict.stderr
    assert "Traceback" not in listed.stderr + doctor.stderr + strict.stderr
