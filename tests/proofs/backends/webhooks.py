"""What webhooks are sent to: it says back what it was told, or that it cannot."""

import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.proofs.backends.web import Log


class Webhooks:
    """`/echo` answers, `/busy` refuses; `log` has both."""

    def __init__(self) -> None:
        self.log = Log()
        self.app = Starlette(
            routes=[
                Route("/echo", self._echo, methods=["GET", "POST"]),
                Route("/busy", self._busy, methods=["GET", "POST"]),
            ]
        )

    async def _echo(self, request: Request) -> Response:
        body = await self.log.keep(request)
        told = json.dumps(body or dict(request.query_params), sort_keys=True)
        return PlainTextResponse(f"{request.method} with {told} · grüß Gott")

    async def _busy(self, request: Request) -> Response:
        await self.log.keep(request)
        return PlainTextResponse("come back later", 503)
