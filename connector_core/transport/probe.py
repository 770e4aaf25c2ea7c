"""A probe of gRPC's core with the installed grpcio: import the modules, start a server, and call it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from connector_core.transport.core_server import CoreServer

_SERVICE = "connector_core.Probe"
_PATIENCE = 5.0
_GREETING = b"probe"


async def probe() -> str:
    """Return what is wrong; nothing, where calls are answered as they should be."""
    server = CoreServer([("grpc.so_reuseport", 0)])
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _try(server)
    except TimeoutError:
        return "a call to it is not answered"
    except Exception as error:  # noqa: BLE001 - a face that has changed raises what it likes
        return f"{type(error).__name__}: {error}"


async def _try(server: CoreServer) -> str:
    methods = {
        "One": grpc.unary_unary_rpc_method_handler(_one),
        "Many": grpc.stream_stream_rpc_method_handler(_many),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        # No proxy could reach this machine's loopback.
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            ask: Any = channel.unary_unary(f"/{_SERVICE}/One")
            many: Any = channel.stream_stream(f"/{_SERVICE}/Many")
            answers = [await ask(_GREETING)]
            answers += [answer async for answer in many(iter([_GREETING, _GREETING]))]
    finally:
        async with asyncio.timeout(_PATIENCE):
            await server.stop(0)
    return "" if answers == [_GREETING] * 3 else f"calls to it are answered {answers}"


async def _one(request: bytes, _context: Any) -> bytes:
    return request


async def _many(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
