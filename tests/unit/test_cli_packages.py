"""What installing does to plugins, and how an environment is put back: the parts of `install` and `uninstall`."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from packaging.utils import canonicalize_name

from connector_core.cli.app import run as connector_host
from connector_core.cli.listing import ListedConnector, ListedPlugin
from connector_core.cli.packages import installed, undo
from connector_core.cli.packages.check import Look, harm, look
from connector_core.cli.packages.installed import Changes, Installed, installed_now
from connector_core.cli.packages.installer import InstallError, Wanted, find_installer
from connector_core.cli.packages.progress import Progress
from connector_core.cli.packages.undo import NotPutBackError, Undoable
from connector_core.errors import SettingsError

QUIET = Progress(is_verbose=False)
ALL = {canonicalize_name("tea")}


def seen(
    name: str = "tea",
    *task_types: str,
    state: Literal["loaded", "failed", "skipped"] = "loaded",
    reason: str = "",
    of: str | None = None,
) -> ListedPlugin:
    connectors = (ListedConnector("Tea", "async", task_types),) if task_types else ()
    return ListedPlugin(name, of or f"connector-plugin-{name}", "1.0", state, connectors, reason=reason)


def at(*plugins: ListedPlugin, **more: object) -> Look:
    return Look({(one.name, one.distribution): one for one in plugins}, **more)  # type: ignore[arg-type]


TEA = seen("tea", "tea")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (at(), at(TEA), []),
        (at(TEA), at(TEA), []),
        (at(), at(seen(state="failed", reason="KeyError: 1\nmore")), ["fails to load: KeyError: 1"]),
        (at(TEA), at(seen(state="failed", reason="KeyError: 1")), ["fails to load: KeyError: 1"]),
        (at(seen("old", state="failed")), at(seen("old", state="failed")), []),
        (at(seen("tea", "a", "b", "c")), at(seen("tea", "b")), ["no longer serve the task type 'a'", "type 'c'"]),
        (at(TEA), at(), ["plugin tea (connector-plugin-tea 1.0) would be gone"]),
        (at(TEA), at(seen(state="skipped", reason="blocked")), ["would be skipped: blocked"]),
        (at(TEA), at(TEA, conflicts=("both claim it",)), ["both claim it"]),
        (at(TEA, conflicts=("both claim it",)), at(TEA, conflicts=("both claim it",)), []),
        (at(TEA), Look(trouble="it crashes"), ["it crashes"]),
        (Look(trouble="it crashes"), at(TEA), []),
        (at(TEA), at(TEA, seen("tea", "x", of="other-tea"), conflicts=("the name is taken",)), ["the name is taken"]),
    ],
)
def test_harm_is_what_fails_anew_what_is_lost_and_what_clashes(before: Look, after: Look, found: list[str]) -> None:
    said = list(harm(before, after, {"connector-plugin-tea"}))
    assert len(said) == len(found)
    assert all(part in text for part, text in zip(found, said, strict=True))


def test_a_plugin_that_is_meant_to_go_is_no_harm() -> None:
    assert list(harm(at(TEA), at(), set(), {("tea", "connector-plugin-tea")})) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(7)", "loading the plugins ends the process with exit code 7"),
        ("import signal; signal.raise_signal(signal.SIGSEGV)", "ends the process with signal SIGSEGV"),
    ],
)
def test_a_plugin_that_ends_the_process_is_found_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(code)
    found = look(QUIET, "looking", ["--modules", "bad"])
    assert said in found.trouble
    assert ("bad.py" in found.output) is ("SIGSEGV" in said)


def test_a_plugin_that_never_finishes_loading_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    found = look(QUIET, "looking", ["--modules", "hangs"], timeout=1)
    assert found.trouble == "the plugins do not finish loading within 1 s"


def test_a_plugin_that_prints_does_not_spoil_what_programs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chatty.py").write_text(
        "import os\nprint('hello')\nos.system('echo from a process')\nraise ValueError('bad')\n"
    )
    chatty = look(QUIET, "looking", ["--modules", "chatty"]).plugins["chatty", None]
    assert (chatty.state, chatty.first_line) == ("failed", "ValueError: bad")


def test_settings_that_do_not_hold_are_told_as_the_host_tells_them() -> None:
    with pytest.raises(SettingsError, match=r"^the settings file nowhere.toml cannot be read"):
        look(QUIET, "looking", ["--config", "nowhere.toml"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Connector_Core", "connector-core is the host itself"),
        ("grpcio", "the host itself needs grpcio"),
        ("flytekit/webhook", "'flytekit/webhook' is found by 'flytekit': name its distribution"),
        ("nonesuch", "there is no plugin or distribution 'nonesuch' here; plugins are duckdb"),
    ],
)
def test_what_the_host_needs_and_what_is_not_there_is_not_uninstalled(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert connector_host(["uninstall", name]) == 2
    assert said in capsys.readouterr().err


def test_install_wants_to_be_told_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert connector_host(["install"]) == 2
    assert "name what to install" in capsys.readouterr().err


def test_names_and_places_are_read_off_requirements() -> None:
    wanted = Wanted(
        ["Tea_Pot[hot]>=1", "./x/mate-1.0-py3-none-any.whl", "cup @ https://h/cup.zip", "./folder[more]"], ["."]
    )
    assert wanted.names == {"tea-pot", "mate", "cup"}
    here = Path.cwd()
    places = [here, here / "x" / "mate-1.0-py3-none-any.whl", here / "folder"]
    assert wanted.places == {place.as_uri() for place in places}


def test_uv_goes_before_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.touch(0o755)
    monkeypatch.setenv("UV", str(uv))  # `uv run` says where it is itself
    assert find_installer(QUIET).command == [str(uv), "pip"]


def test_a_folder_that_belongs_to_the_system_is_explained(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: externally managed'\nexit 2\n")
    uv.chmod(0o755)
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setenv("UV", str(uv))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(InstallError) as raised:
        find_installer(QUIET).plan(Wanted(["tea"]))
    assert "uv ended with 2 and says:\n    error: externally managed" in str(raised.value)
    assert "Give the host an environment of its own: python3 -m venv" in str(raised.value)


# Putting back


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment's folder of packages, with one distribution."""
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    monkeypatch.setattr(installed, "site_packages", lambda: [folder])
    monkeypatch.setattr(undo, "site_packages", lambda: [folder])
    monkeypatch.setattr(undo, "own_folders", lambda: [folder, tmp_path / "bin"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    add(folder, "tea", "1.0", {"tea/__init__.py": "one", "shared/tea.py": "1", "../../bin/tea": "#!"})
    return folder


def add(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    info = f"{name}-{version}.dist-info"
    files = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def remove(folder: Path, name: str) -> None:
    (info,) = folder.glob(f"{name}-*.dist-info")
    for line in (info / "RECORD").read_text().splitlines():
        (folder / line.split(",")[0]).unlink()
    info.rmdir()


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    root = folder.parents[1]
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_text())
        for path in files(root)
        if path.is_file()
    }


def files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if "__pycache__" not in path.parts)


def spoil(site: Path) -> None:
    """Do what an installer does that is interrupted in the middle of an upgrade."""
    remove(site, "tea")
    (site / "tea" / "__pycache__").mkdir()
    (site / "tea" / "__pycache__" / "__init__.cpython-311.pyc").write_text("of two")
    add(
        site,
        "tea",
        "2.0",
        {"tea/__init__.py": "two", "tea/more/deep.py": "", "../../bin/pot": "#!", "../../bin/tea": "2"},
    )
    add(site, "milk", "1.0", {"milk/__init__.py": "", "../../share/milk/man.txt": ""})
    (site / "shared" / "half.py").write_text("nobody has written this down")
    (site / "sugar").mkdir()
    (site / "sugar" / "half.py").write_text("nor this")


@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_not_accepted_is_undone_to_the_last_file(
    site: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:

        def refuse(*_arguments: object, **_more: object) -> None:
            raise OSError("no links on this disk")

        monkeypatch.setattr(os, "link", refuse)
    before, was = tree(site), installed_now()
    told = []
    with Undoable(ALL, lambda: told.append("undone")):
        spoil(site)
        assert tree(site) != before
    assert tree(site) == before
    assert installed_now() == was
    assert told == ["undone"]
    assert not (site / "tea" / "__pycache__").exists()
    assert not (site / "tea" / "more").exists()
    assert not (site / "sugar").exists()
    assert not list(site.parent.glob(".connector-host-*"))


def test_what_fails_is_undone_and_what_is_accepted_stays(site: Path) -> None:
    before = tree(site)

    def fail() -> None:
        with Undoable(ALL, lambda: None):
            spoil(site)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert tree(site) == before
    with Undoable(ALL, lambda: None) as change:
        remove(site, "tea")
        change.accept()
    assert installed_now() == {}
    assert not list(site.parent.glob(".connector-host-*"))


def test_what_was_not_touched_is_not_put_back(site: Path) -> None:
    with Undoable(ALL, lambda: pytest.fail("there is nothing to undo")):
        (site / "tea" / "__pycache__").mkdir()


def test_what_cannot_be_undone_is_named_with_what_would_mend_it(site: Path) -> None:
    with (
        pytest.raises(NotPutBackError, match=r"tea differ from before\. To mend it, install tea==1\.0"),
        Undoable((), lambda: None),
    ):
        remove(site, "tea")


def test_changes_are_what_came_went_and_was_replaced() -> None:
    def one(name: str, version: str) -> Installed:
        return Installed(name, version, "", "", ())

    before = {"a": one("a", "1"), "b": one("b", "1"), "c": one("c", "1")}
    after = {"b": one("b", "2"), "c": one("c", "1"), "d": one("d", "1")}
    assert list(Changes.between(before, after).lines()) == ["+ d 1", "~ b 1 -> 2", "- a 1"]  # type: ignore[arg-type]


def test_damaged_distributions_hide_no_others(site: Path) -> None:
    metadata = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
    files = {
        "latin": {"METADATA": f"{metadata.format('latin')}Author: Jos\xe9\n".encode("latin-1")},
        "bare": {
            "METADATA": metadata.format("bare").encode(),
            "entry_points.txt": b"[connector_core.plugins]\njust-a-word\n",
        },
        "": {},
    }
    for name, parts in files.items():
        (folder := site / f"{name}-1.0.dist-info").mkdir()
        for file, data in parts.items():
            (folder / file).write_bytes(data)
    assert {name: one.plugins for name, one in installed_now().items()} == {"tea": (), "bare": ()}
