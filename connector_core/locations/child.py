"""A location's process: it ends with the host, loads its plugins, says what became of them, and serves calls."""

import asyncio
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from connector_core.description import ConnectorDescription
from connector_core.hostlog import HostLog
from connector_core.inspection import InspectedConnector
from connector_core.invocation import LocalPlaces, LocalRuntime
from connector_core.invocation.loops import loop_factory
from connector_core.locations.heads import HelloHead, LoadedHead, StartHead, from_json, to_json
from connector_core.locations.serving import Serving
from connector_core.locations.wire import (
    SLACK_BYTES,
    TO_LOCATION,
    VERSION,
    Frame,
    FrameReader,
    Kind,
    WireError,
    encode,
)
from connector_core.metrics import Metrics
from connector_core.plugins import (
    PluginLoadResult,
    PluginSelection,
    installed_plugins,
    load_plugins,
    module_plugin,
)
from connector_core.secrets import SecretSource, use_source

_PR_SET_PDEATHSIG = 1
_SECONDS_TO_CLOSE = 2.0


class AnnouncedSecrets(SecretSource):
    """The secrets of a location's plugins, each announced to the host, which keeps them out of its log and answers."""

    def __init__(self, env_prefix: str, folder: str) -> None:
        super().__init__(env_prefix, Path(folder))
        self.announce: Callable[[str], None] = lambda _secret: None

    def note(self, secret: str) -> None:
        """Count a secret as handed out, and announce it."""
        is_new = secret not in self.handed_out
        super().note(secret)
        if is_new:
            self.announce(secret)


def main(arguments: list[str]) -> None:
    """Run a location over the socket whose descriptor is the one argument."""
    _end_with_parent()
    if len(arguments) != 2 or not arguments[1].isdecimal():
        sys.exit("connector_core.locations: started by a host alone, for its setting [locations.NAME]")
    faulthandler.enable()  # what a crash did stands on stderr, of which the host keeps the last lines
    end = socket.socket(fileno=int(arguments[1]))
    os.set_inheritable(end.fileno(), False)
    start = _read_start(end)
    if os.getppid() != start.parent:
        _end("the host has ended")
    sys.path[:] = start.path
    secrets = AnnouncedSecrets(*start.secrets)
    use_source(secrets)
    with HostLog(start.levels, "json", lambda: secrets.handed_out, sys.stderr) as log:
        result = _load(start)
        log.hold_to_levels()
        end.sendall(b"".join(encode(Kind.HELLO, head=to_json(_hello(result, secrets)))))
        with asyncio.Runner(loop_factory=loop_factory(start.loop)) as runner:
            runner.run(_serve(end, start, result, secrets))
            log.flush()
            # Threads that plugin code hangs in must not keep an exit waiting.
            os._exit(0)


def _end_with_parent() -> None:
    """Have the kernel end this process when the host ends, however it does and whatever this process is doing then."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read_start(end: socket.socket) -> StartHead:
    reader = FrameReader(TO_LOCATION, SLACK_BYTES)
    frames: list[Frame] = []
    try:
        while not frames:
            if not (data := end.recv(65536)):
                _end("the host has ended")
            frames = reader.feed(data)
        start: StartHead = from_json(frames[0].head, StartHead)
    except WireError as error:
        _end(f"the host and this location are not of one version: {error}")
    return start


def _end(reason: str) -> NoReturn:
    sys.stderr.write(f"connector_core.locations: {reason}\n")
    sys.stderr.flush()
    os._exit(1)


def _load(start: StartHead) -> PluginLoadResult:
    """Load the location's plugins under the guards that the host has for its own."""
    if start.version != VERSION:
        _end(f"the host speaks version {start.version} of the wire, and this location {VERSION}: upgrade the older one")
    sources = [module_plugin(module) for module in start.modules]
    sources += [source for source in installed_plugins() if source.identity.name in start.plugins]
    selection = PluginSelection(start.allow, start.block, start.sections, start.names, start.places, start.load_timeout)
    return load_plugins(sources, selection)


def _hello(result: PluginLoadResult, secrets: AnnouncedSecrets) -> HelloHead:
    loaded = tuple(
        LoadedHead(plugin.identity, plugin.descriptions, plugin.seconds, plugin.summary, plugin.is_bridge)
        for plugin in result.loaded
    )
    return HelloHead(VERSION, loaded, result.failed, result.skipped, tuple(secrets.handed_out))


async def _serve(end: socket.socket, start: StartHead, result: PluginLoadResult, secrets: AnnouncedSecrets) -> None:
    from connector_core.hostlog.redaction import Scrubber

    loaded = {
        connector.description.origin: connector
        for plugin in result.loaded
        for connector in plugin.connectors
        if isinstance(connector, InspectedConnector)
    }

    def inspected(description: ConnectorDescription) -> InspectedConnector:
        return loaded[description.origin]

    runtime = LocalRuntime(
        Metrics(),
        secrets=secrets,
        new_loop=loop_factory(start.loop),
        stall_threshold=start.stall_seconds,
        batch=start.batch,
        scrub=Scrubber(lambda: secrets.handed_out).scrub,
    )
    places = LocalPlaces(inspected, runtime)
    failures = {plugin.identity.name: plugin.reason for plugin in result.failed}
    loop = asyncio.get_running_loop()
    serving = Serving(places, frozenset(loaded), failures, secrets, start.max_bytes)
    secrets.announce = lambda secret: loop.call_soon_threadsafe(serving.announce, secret)  # type: ignore[assignment]
    loop.add_signal_handler(signal.SIGTERM, serving.stop)
    await loop.create_unix_connection(lambda: serving, sock=end)
    await serving.stopped.wait()
    await serving.close()
    await places.close(_SECONDS_TO_CLOSE)
