"""`/metrics`: Prometheus' text or OpenMetrics, as the `Accept` header asks."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def metrics_route(registry: CollectorRegistry) -> Route:
    """Return the route that shows a registry; `name[]` in the query chooses series, as with Prometheus' own servers."""

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        names = request.query_params.getlist("name[]")
        shown = registry.restricted_registry(names) if names else registry
        return Response(encode(shown), headers={"Content-Type": content_type})

    return Route("/metrics", metrics, middleware=[Middleware(GZipMiddleware)])
