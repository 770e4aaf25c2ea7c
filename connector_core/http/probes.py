"""`/metrics`, `/healthz` and `/readyz`: what monitoring asks a host.

The latter two ask the loop that serves gRPC, since a host whose loop is blocked serves nobody.
"""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.exposition import choose_encoder
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connector_core.http.servicer_calls import ServedCalls
from connector_core.metrics import Metrics
from connector_core.metrics.plugin_metrics import PluginMetrics, Scrape
from connector_core.readiness import HostState

PATIENCE = 5.0
"""Seconds after which the serving loop counts as blocked; probes mostly give up earlier themselves."""

_STUCK = f"the event loop that serves gRPC is blocked: no response within {PATIENCE:g} s; the log names what blocks it"


class Probes:
    """Answers for the host.

    Args:
        metrics: shown at `/metrics`.
        calls: the way to the serving loop.
        state: returns the host's state; called on that loop.
    """

    def __init__(self, metrics: Metrics, calls: ServedCalls, state: Callable[[], HostState]) -> None:
        self._metrics = metrics
        self._of_plugins = PluginMetrics()
        self._calls = calls
        self._state = state

    @property
    def routes(self) -> list[BaseRoute]:
        """The paths that are answered."""
        return [
            Route("/metrics", self.metrics, middleware=[Middleware(GZipMiddleware)]),
            Route("/healthz", self.alive),
            Route("/readyz", self.ready),
        ]

    async def metrics(self, request: Request) -> Response:
        """Show all series in Prometheus' text or OpenMetrics, as `Accept` asks; `name[]` in the query chooses some.

        Those that plugins registered with prometheus_client's default registry are among them.
        """
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        names = request.query_params.getlist("name[]")
        # One in all but its base class.
        shown: Any = Scrape(self._metrics.registry, await self._of_plugins.families(), names)
        return Response(encode(shown), headers={"Content-Type": content_type})

    async def alive(self, _request: Request) -> JSONResponse:
        """Say 200 while the host works at all, draining or not."""
        try:
            failure = (await self._calls.ask(self._state, PATIENCE)).failure
        except TimeoutError:
            return _answer("stuck", [_STUCK])
        return _answer("ended", [failure]) if failure else _answer("alive", [])

    async def ready(self, _request: Request) -> JSONResponse:
        """Say 200 if the host should get calls, and why it should not otherwise."""
        try:
            reasons = (await self._calls.ask(self._state, PATIENCE)).reasons_not_ready
        except TimeoutError:
            reasons = [_STUCK]
        return _answer("not ready" if reasons else "ready", reasons)


def _answer(status: str, reasons: Sequence[str]) -> JSONResponse:
    return JSONResponse(
        {"status": status, "reasons": list(reasons)},
        status_code=503 if reasons else 200,
        headers={"Cache-Control": "no-store"},
    )
