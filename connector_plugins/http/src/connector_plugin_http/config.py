"""The operator's section `[plugins.http]`: which endpoints callers may use, and what for."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from connector_core.errors import SettingsError
from connector_core.tables import After, Meta, Table, near, read_table
from connector_plugin_http.recipes import SHIPPED, Recipe, recipe_named

SECTION = "[plugins.http]"

_CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE|HEAD|\*) (/\S*)")


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an http(s) URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("has credentials, a query or a fragment; write only scheme, host, port and path")
    _ = parts.port  # raises for one that is not a number
    return url.rstrip("/")


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


def _call(pattern: str) -> str:
    if not _CALL.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is not a method and a path such as `GET /reports/*`")
    return pattern


class SecretRef(Table, frozen=True):
    """A header's value that is a secret, looked up by name for each request; `prefix` goes before it."""

    secret: str
    group: str | None = None
    prefix: str = ""


class Basic(Table, frozen=True):
    """A user whose password is a secret."""

    user: str
    secret: str
    group: str | None = None


class Endpoint(Table, frozen=True):
    """A system that callers may use by name.

    Attributes:
        url: where it is; all requests go below it.
        headers: sent with each request: texts, or `{secret = "NAME", group = "GROUP", prefix = "Bearer "}`.
        basic: a user and the secret that is its password.
        recipe: what jobs are here, unless a task says another one of `recipes`.
        recipes: further recipes that tasks may choose.
        calls: the calls that tasks may make, such as `GET /reports/*`; none unless set.
        private_networks: addresses that are not public and yet allowed, as networks.
        ca_file: certificates of authorities to trust in place of the usual ones.
        timeout: seconds that a request may take, its answer included.
        max_answer_bytes: the longest answer that is read.
        max_connections: connections at a time; further requests wait.
    """

    url: Annotated[str, After(_base_url)]
    headers: dict[str, str | SecretRef] = msgspec.field(default_factory=dict)
    basic: Basic | None = None
    recipe: str = ""
    recipes: tuple[str, ...] = ()
    calls: tuple[Annotated[str, After(_call)], ...] = ()
    private_networks: tuple[Annotated[str, After(_network)], ...] = ()
    ca_file: Path | None = None
    timeout: Annotated[float, Meta(gt=0, le=600)] = 10.0
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 4 * 1024**2
    max_connections: Annotated[int, Meta(ge=1)] = 20

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port of the URL."""
        return origin_of(self.url)

    @property
    def base_path(self) -> str:
        """The URL's path, without a slash at the end."""
        return urlsplit(self.url).path.rstrip("/")

    @property
    def has_credentials(self) -> set[str]:
        """The names of the headers that come from here, in lower case."""
        return {name.lower() for name in self.headers} | ({"authorization"} if self.basic else set())

    def all_recipes(self) -> list[str]:
        """Return the recipes that tasks may choose, the one that they need not name first."""
        return list(dict.fromkeys([*([self.recipe] if self.recipe else []), *self.recipes]))


def origin_of(url: str) -> tuple[str, str, int]:
    """Return the scheme, the host in lower case and the port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


class HttpConfig(Table, frozen=True):
    """The section `[plugins.http]`.

    Attributes:
        endpoints: what callers may use, by the name that they use; without any there is no connector.
        recipes: recipes of the operator's own, by name.
        webhook: serve the task type `webhook`, too.
        inline: for tasks that name hosts, such as `webhook`: the endpoint that stands for a host.
        min_poll_interval: seconds within which a job is not asked about again.
    """

    endpoints: dict[str, Endpoint] = msgspec.field(default_factory=dict)
    recipes: dict[str, Recipe] = msgspec.field(default_factory=dict)
    webhook: bool = False
    inline: dict[str, str] = msgspec.field(default_factory=dict)
    min_poll_interval: Annotated[float, Meta(ge=0)] = 5.0

    def recipe(self, name: str) -> Recipe | None:
        """Return a recipe by name, if there is one."""
        return recipe_named(name, self.recipes)


def load_config(section: Mapping[str, Any]) -> HttpConfig:
    """Check the section of the settings.

    Raises:
        SettingsError: naming the key that is unknown or has an impossible value.
    """
    config = read_table(HttpConfig, section, SECTION)
    for name, endpoint in config.endpoints.items():
        for recipe in endpoint.all_recipes():
            if config.recipe(recipe) is None:
                known = (*config.recipes, *SHIPPED)
                raise SettingsError(
                    f"{SECTION}: endpoints.{name}: unknown recipe {recipe!r}{near(recipe, known)}; "
                    f"there are {', '.join(known)}"
                )
    for host, name in config.inline.items():
        if name not in config.endpoints:
            known = tuple(config.endpoints)
            raise SettingsError(
                f"{SECTION}: inline.{host}: unknown endpoint {name!r}{near(name, known)}; "
                f"there are {', '.join(known) or 'none'}"
            )
        if config.endpoints[name].origin[1] != host.lower():
            raise SettingsError(
                f"{SECTION}: inline.{host}: the URL of endpoint {name!r} is at {config.endpoints[name].origin[1]}"
            )
    return config
