"""A gate on loopback at which plugin code in another process waits, so that a test knows that it got there."""

import socket
from types import TracebackType
from typing import Self

PLUGIN = """
    import asyncio, os, socket
    from connector_core import AsyncConnectorBase, Phase, Resource, ResourceMeta, hookimpl

    ADDRESS = ("127.0.0.1", int(os.environ["GATE"]))

    class AtTheGate(AsyncConnectorBase[ResourceMeta]):
        def get(self): return Resource(Phase.SUCCEEDED)
        def delete(self): pass

    class Blocking(AtTheGate):
        name = task_type_name = "blocking"
        def create(self):
            with socket.create_connection(ADDRESS) as waiting:
                waiting.recv(1)
            return ResourceMeta()

    class Asynchronous(AtTheGate):
        name = task_type_name = "asynchronous"
        async def create(self):
            reader, writer = await asyncio.open_connection(*ADDRESS)
            await reader.read(1)
            writer.close()
            return ResourceMeta()

    @hookimpl
    def register_connectors(): return [Blocking(), Asynchronous()]
"""


class Gate:
    """Lets nobody through until it is opened."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._server.settimeout(60)
        self._waiting: list[socket.socket] = []

    @property
    def port(self) -> int:
        """Where to wait."""
        port: int = self._server.getsockname()[1]
        return port

    def wait_for(self, number: int) -> None:
        """Return when so many are waiting."""
        while len(self._waiting) < number:
            self._waiting.append(self._server.accept()[0])

    def open(self) -> None:
        """Let all who wait go on."""
        for waiting in self._waiting:
            waiting.close()
        self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        self._server.close()
