"""The gRPC port of hosts that come and go: clients that connect in between wait for the next host."""

import asyncio
import contextlib
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence

_CHUNK = 64 * 1024


class Gate:
    """Passes connections on to the host that serves now; while it is held, new ones wait."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._host = 0
        self._is_open = asyncio.Event()

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections on these sockets, and no longer on those before."""
        former, self._servers = self._servers, []
        for server in former:
            server.close()
        for one in sockets:
            self._servers.append(await asyncio.start_server(self._take, sock=one))

    def hold(self) -> None:
        """Let new connections wait."""
        self._is_open.clear()

    def open(self, port: int) -> None:
        """Pass connections on to the host on this port, those that wait first."""
        self._host = port
        self._is_open.set()

    async def close(self) -> None:
        """Take no more connections, and end those that there are."""
        await self.listen(())
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _take(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None  # noqa: S101 - this is one
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        try:
            from_host, to_host = await self._connect()
            try:
                await asyncio.gather(_pump(reader, to_host), _pump(from_host, writer))
            finally:
                to_host.close()
        except (OSError, asyncio.CancelledError):
            pass  # one of the two has gone, or all is over
        finally:
            writer.close()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        while True:
            await self._is_open.wait()
            host = self._host
            try:
                return await asyncio.open_connection("127.0.0.1", host)
            except OSError:
                if self._host == host:  # it has just ended, and nobody has said so yet
                    self.hold()


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):  # closed already
        writer.write_eof()
