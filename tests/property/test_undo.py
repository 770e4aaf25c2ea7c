"""Whatever an installer does to the packages, and wherever it stops, what was there before comes back to the last file."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from connector_core.cli.packages import installed, undo
from connector_core.cli.packages.undo import Undoable

NAMES = ["tea", "mate", "milk"]
PLACES = ["{name}/__init__.py", "{name}/deep/more.py", "shared/{name}.py", "shared/deep/{name}.py", "../../bin/{name}"]

Packages = dict[str, tuple[str, tuple[str, ...]]]
"""By name, a version and where files lie."""

packages = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(["1.0", "2.0"]), st.lists(st.sampled_from(PLACES), unique=True).map(tuple)),
)
strays = st.sets(st.sampled_from(["shared/half.py", "tea/half.py", "sugar/half.py", "sugar/deep/half.py"]))


def files_of(name: str, version: str, places: tuple[str, ...]) -> dict[str, str]:
    info = f"{name}-{version}.dist-info"
    files = {place.format(name=name): f"{name} {version}" for place in places}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])}


def steps(before: Packages, after: Packages, stray: set[str], site: Path) -> Iterator[Callable[[], object]]:
    """Yield what an installer does, one after the other."""
    for name, (version, places) in before.items():
        if after.get(name) != (version, places):
            for path in files_of(name, version, places):
                yield (site / path).unlink
    for path in sorted(stray):
        yield partial(write, site / path, "nobody has written this down")
    for name, (version, places) in after.items():
        if before.get(name) != (version, places):
            for path, text in files_of(name, version, places).items():
                yield partial(write, site / path, text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    cache = path.parent / "__pycache__"
    if path.suffix == ".py":
        cache.mkdir(exist_ok=True)
        (cache / f"{path.stem}.cpython-311.pyc").write_text(text)


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return the files and which ones they are; compiled code can be made again."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_text())
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@contextmanager
def environment(content: Packages) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        site = root / "lib" / "site-packages"
        site.mkdir(parents=True)
        for name, (version, places) in content.items():
            for path, text in files_of(name, version, places).items():
                write(site / path, text)
        with pytest.MonkeyPatch.context() as here:
            here.setattr(installed, "site_packages", lambda: [site])
            here.setattr(undo, "site_packages", lambda: [site])
            here.setattr(undo, "own_folders", lambda: [site, root / "bin"])
            here.setattr(sys, "prefix", str(root))
            yield site


@given(before=packages, after=packages, stray=strays, cut=st.integers(0, 40))
def test_what_an_installer_did_is_undone_wherever_it_stopped(
    before: Packages, after: Packages, stray: set[str], cut: int
) -> None:
    with environment(before) as site:
        root = site.parents[1]
        was = tree(root)
        touched = {canonicalize_name(name) for name in {*before, *after} if before.get(name) != after.get(name)}
        with Undoable(touched, lambda: None):
            for number, step in enumerate(steps(before, after, stray, site)):
                if number == cut:
                    break
                step()
        assert tree(root) == was
