"""The HTTP app: which path is answered by what."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Scope

from connector_core.http.console.console import make_console
from connector_core.http.face import HttpFace
from connector_core.http.gateway import Gateway, derive_routes, describe
from connector_core.http.gateway.guard import Guard
from connector_core.http.probes import Probes


def make_app(face: HttpFace) -> Starlette:
    """Put the app together."""
    probes = Probes(face.metrics, face.calls, face.state)
    derived = derive_routes(face.services())
    gateway = Gateway(derived, face.calls, Guard(face.settings, face.tokens), face.settings)
    shown: list[bytes] = []

    async def openapi(_request: Request) -> Response:
        if not shown:  # made when it is first asked for: few hosts are
            shown.append(describe(gateway.served))
        return Response(shown[0], media_type="application/json")

    routes: list[BaseRoute] = [*probes.routes, Route("/openapi.json", openapi)]
    console = make_console(face) if face.console else None
    if console is not None:
        routes += console.routes
    routes += [_Under(f"/{prefix}", gateway) for prefix in sorted({route.template.prefix for route in derived})]
    app = Starlette(routes=routes)
    # Redirects from `/metrics/` to `/metrics` would go to whatever host the request names.
    app.router.redirect_slashes = False
    return app


class _Under(Mount):
    """A mount of whatever lies under a path: Starlette's own pattern has no line breaks, which names may have."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Compare beginnings."""
        is_under = scope["type"] == "http" and scope["path"].startswith(f"{self.path}/")
        return (Match.FULL, {"endpoint": self.app}) if is_under else (Match.NONE, {})
