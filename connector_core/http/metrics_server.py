"""`/metrics` for Prometheus, in a thread of its own, so that a slow scrape takes nothing from the calls."""

import errno
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from connector_core.errors import AddressInUseError


class MetricsServer:
    """Listens from its making until `close`.

    Raises:
        AddressInUseError: the port is taken.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        try:
            self._server, self._thread = _start(registry, host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise AddressInUseError(
                f"the HTTP port {host}:{port} is taken by another process: stop it, or choose another with --http-port"
            ) from None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _start(registry: CollectorRegistry, host: str, port: int) -> tuple[WSGIServer, Thread]:
    return start_http_server(port, host, registry)
