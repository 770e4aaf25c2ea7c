"""Runs of the tests on a transport that hosts would not choose by themselves."""

from collections.abc import Sequence
from typing import Any

import pytest

from connector_core import server
from connector_core.transport import GrpcServer, open_server


def serve_through(transport: str, patch: pytest.MonkeyPatch) -> None:
    """Have all servers of this process serve gRPC in this way from now on, where their setting leaves it to the host."""

    async def open_chosen(
        choice: str,
        options: Sequence[tuple[str, int]] = (),
        interceptors: Sequence[Any] = (),
        request_seconds: float | None = None,
    ) -> GrpcServer:
        chosen = transport if choice == "auto" else choice
        return await open_server(chosen, options, interceptors, request_seconds)

    patch.setattr(server, "open_server", open_chosen)
