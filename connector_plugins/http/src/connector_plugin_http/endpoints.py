"""The endpoints that callers may name, each with its client."""

from connector_core import InvalidInputError
from connector_core.tables import near
from connector_plugin_http.client import Client
from connector_plugin_http.config import Endpoint, HttpConfig
from connector_plugin_http.guard import Resolver


class Endpoints:
    """The clients of all endpoints, each made when it is first asked for.

    Args:
        config: the operator's section.
        resolve: what resolves names; the system unless given.
    """

    def __init__(self, config: HttpConfig, resolve: Resolver | None = None) -> None:
        self._config = config
        self._resolve = resolve
        self._clients: dict[str, Client] = {}

    def named(self, name: object) -> tuple[str, Endpoint]:
        """Return an endpoint by the name that a task has for it.

        Raises:
            InvalidInputError: naming those that there are.
        """
        known = tuple(self._config.endpoints)
        if not isinstance(name, str) or name not in self._config.endpoints:
            hint = near(name, known) if isinstance(name, str) else ""
            raise InvalidInputError(f"there is no endpoint {name!r}{hint}; there are: {', '.join(known)}")
        return name, self._config.endpoints[name]

    def client(self, name: str) -> Client:
        """Return an endpoint's client."""
        if name not in self._clients:
            self._clients[name] = Client(name, self._config.endpoints[name], self._resolve)
        return self._clients[name]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
