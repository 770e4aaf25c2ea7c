"""Which files `serve --reload` watches, and how it says what has changed in them."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from connector_core.settings import Settings

pytest.importorskip("watchfiles", reason="the extra `reload` brings it")

from connector_core.cli.reload.gate import Gate
from connector_core.cli.reload.sources import Sources, Watcher

NOTHING = Settings(allow_plugin=("none",))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a host is started in, and that modules are looked for in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def make(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def install(site: Path, name: str, origin: Path, value: str | None = None) -> None:
    """Make a distribution that is installed as editable from a folder."""
    info = site / f"{name}-1.0.dist-info"
    make(info / "METADATA")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": origin.as_uri(), "dir_info": {"editable": True}}))
    if value:
        (info / "entry_points.txt").write_text(f"[connector_core.plugins]\n{name} = {value}\n")


def test_a_module_is_watched_with_what_lies_beside_it(place: Path) -> None:
    make(
        place / "own_module.py",
        place / "helpers" / "__init__.py",
        place / "data" / "x.py",
        place / "tests" / "__init__.py",
    )
    sources = Sources.of(Settings(modules=("own_module",)), None)
    assert place in sources.folders
    assert place / "helpers" in sources.trees
    assert not {place / "data", place / "tests", place} & sources.trees
    assert sources.settings == place / "connector-host.toml"


def test_a_package_is_watched_to_its_bottom_and_a_missing_module_may_come(place: Path) -> None:
    make(place / "own_package" / "deep" / "__init__.py", place / "own_package" / "__init__.py")
    sources = Sources.of(Settings(modules=("own_package.deep", "not_there")), None)
    assert place / "own_package" in sources.trees
    assert place / "own_package" / "deep" not in sources.trees  # once is enough
    assert place in sources.folders


def test_editable_installs_are_watched_where_their_sources_lie(place: Path) -> None:
    make(
        place / "a b" / "src" / "one" / "__init__.py",
        place / "flat" / "two" / "__init__.py",
        place / "flat" / "setup.py",
    )
    install(place, "one", place / "a b", "one")
    install(place, "two", place / "flat")
    sources = Sources.of(NOTHING, None)
    assert {place / "a b" / "src", place / "flat" / "two"} <= sources.trees
    assert place / "flat" in sources.folders


def test_what_is_installed_for_good_is_not_watched(place: Path) -> None:
    sources = Sources.of(Settings(modules=("json", "pytest")), Path("elsewhere") / "host.toml")
    assert not [one for one in sources.trees | sources.folders if "site-packages" in one.parts or one.name == "json"]
    assert sources.settings == place / "elsewhere" / "host.toml"


def edit(file: Path) -> None:
    make(file)
    file.write_text(f"{file.read_text()}#")


async def test_a_source_that_changes_or_comes_is_news_and_others_are_not(place: Path) -> None:
    one, flat, below, settings = (
        place / "tree" / "one.py",
        place / "flat.py",
        place / "below" / "it.py",
        place / "host.toml",
    )
    make(one, flat, below)
    watcher = Watcher()
    seen: set[Path] = set()

    async def see(file: Path) -> None:
        async with asyncio.timeout(60):
            while file not in seen:
                await watcher.wait()
                seen.update(watcher.taken())

    await watcher.follow(Sources(frozenset({place / "tree"}), frozenset({place}), settings))
    try:
        for other in (
            place / "tree" / "__pycache__" / "one.py",
            place / "tree" / "notes.txt",
            place / "other.toml",
            below,
        ):
            edit(other)
        for file in (one, flat, settings, place / "tree" / "new" / "two.py"):
            edit(file)
            await see(file)
        assert seen == {one, flat, settings, place / "tree" / "new" / "two.py"}
        await watcher.follow(Sources(frozenset({place / "below"}), frozenset(), settings))
        seen.clear()
        edit(one)
        edit(below)
        await see(below)
        assert one not in seen
    finally:
        await watcher.close()


# The gate


class Echo:
    """A host in miniature: it answers each line with its own name before it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(f"{self._name} ".encode() + line)
        writer.close()

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()


async def asked(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"hello\n")
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_who_connects_while_no_host_serves_is_passed_on_to_the_next_one() -> None:
    gate, first, second = Gate(), Echo("first"), Echo("second")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        await gate.listen([listening])
        early = asyncio.create_task(asked(address))
        gate.open(await first.start())
        assert await early == b"first hello\n"
        gate.hold()
        between = asyncio.create_task(asked(address))
        first.stop()
        gate.open(await second.start())
        assert await between == b"second hello\n"
        second.stop()  # and nobody tells the gate
        late = asyncio.create_task(asked(address))
        third = Echo("third")
        gate.open(await third.start())
        assert await late == b"third hello\n"
        third.stop()
        await gate.close()
        with pytest.raises(ConnectionRefusedError):
            await asked(address)


async def test_a_gate_that_closes_ends_the_connections_that_it_has() -> None:
    gate, host = Gate(), Echo("host")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await gate.listen([listening])
        gate.open(await host.start())
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"host hello\n"
        await gate.close()
        assert await reader.read() == b""
        writer.close()
        host.stop()
