"""`/healthz` and `/readyz`: both ask the loop that serves gRPC, since a host whose loop is stuck serves nobody."""

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse

from connector_core.http.calls import ServedCalls

PATIENCE = 5.0
"""Seconds after which the serving loop counts as stuck; probes mostly give up earlier themselves."""

_STUCK = f"the loop that serves gRPC did not come round within {PATIENCE:g} s: the log names what blocks it"


class Probes:
    """Answers for the host.

    Args:
        calls: the way to the serving loop.
        not_ready: why the host should get no calls.
    """

    def __init__(self, calls: ServedCalls, not_ready: Callable[[], Sequence[str]]) -> None:
        self._calls = calls
        self._not_ready = not_ready

    async def alive(self, _request: Request) -> JSONResponse:
        """Say 200 while the host works at all, draining or not."""
        try:
            await self._calls.ask(lambda: None, PATIENCE)
        except TimeoutError:
            return _answer("stuck", [_STUCK])
        return _answer("alive", [])

    async def ready(self, _request: Request) -> JSONResponse:
        """Say 200 if the host should get calls, and why it should not otherwise."""
        try:
            reasons = await self._calls.ask(self._not_ready, PATIENCE)
        except TimeoutError:
            reasons = [_STUCK]
        return _answer("not ready" if reasons else "ready", reasons)


def _answer(status: str, reasons: Sequence[str]) -> JSONResponse:
    return JSONResponse(
        {"status": status, "reasons": list(reasons)},
        status_code=503 if reasons else 200,
        headers={"Cache-Control": "no-store"},
    )
