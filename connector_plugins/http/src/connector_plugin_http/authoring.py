"""The common part of both SDKs' task classes: a task's `custom`, checked when it is written."""

from collections.abc import Mapping
from typing import Any

import msgspec

from connector_plugin_http.rendering import to_json


class DeclaredJob(msgspec.Struct, frozen=True):
    """A job as a workflow author writes it down: an endpoint's name and the values of its recipe."""

    endpoint: str
    values: dict[str, Any]
    recipe: str = ""

    def to_custom(self) -> dict[str, Any]:
        """Return what the connector reads.

        Raises:
            InvalidInputError: a value cannot be written as JSON.
        """
        custom: dict[str, Any] = {"endpoint": self.endpoint}
        if self.recipe:
            custom["recipe"] = self.recipe
        if self.values:
            custom["values"] = to_json("values", self.values)
        return custom


class DeclaredCall(msgspec.Struct, frozen=True):
    """A call as a workflow author writes it down."""

    endpoint: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    def to_custom(self) -> dict[str, Any]:
        """Return what the connector reads.

        Raises:
            InvalidInputError: a value cannot be written as JSON.
        """
        custom: dict[str, Any] = {"endpoint": self.endpoint, "method": self.method, "path": self.path}
        for name, value in (("query", dict(self.query)), ("headers", dict(self.headers)), ("body", self.body)):
            if value:
                custom[name] = to_json(name, value)
        return custom
