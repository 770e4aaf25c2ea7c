"""Routes from the `google.api.http` options of a service's methods, and the one that a request's path is for.

The rules are those of `google/api/http.proto`, for templates whose variables take one segment each. Others, which the protocol
does not have, are refused when the routes are derived, and never served wrongly.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api.annotations_pb2 import http as http_option
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc import StatusCode

from connector_core.http.gateway.refusals import Refused

_SEGMENT = re.compile(r"\{(?P<field>[a-z]\w*(\.[a-z]\w*)*)(=\*)?\}|(?P<literal>[\w\-.~]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Field:
    """A segment that is a field of the request, such as `{task_category.name}`."""

    path: str


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path with fields in it."""

    text: str
    segments: tuple[str | Field, ...]

    @classmethod
    def parse(cls, text: str) -> "PathTemplate":
        """Read a template.

        Raises:
            ValueError: it has what is not served here, such as `**`, variables of several segments, or verbs.
        """
        segments: list[str | Field] = []
        for segment in text.removeprefix("/").split("/"):
            found = _SEGMENT.fullmatch(segment)
            if found is None or not text.startswith("/"):
                raise ValueError(
                    f"the path template {text!r} cannot be served: {segment!r} is neither a name nor a {{field}}"
                )
            segments.append(Field(found["field"]) if found["field"] else found["literal"])
        return cls(text, tuple(segments))

    @property
    def prefix(self) -> str:
        """The first segment."""
        return str(self.segments[0])

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the text of each field, by its path, if a path is of this template.

        A field may be empty: the request can then be sent, and the servicer says what it lacks.
        """
        if len(segments) != len(self.segments):
            return None
        bound = {}
        for wanted, here in zip(self.segments, segments, strict=True):
            if isinstance(wanted, Field):
                bound[wanted.path] = here
            elif wanted != here:
                return None
        return bound


@dataclass(frozen=True, slots=True)
class Route:
    """One way to call a method over HTTP.

    Attributes:
        verb: the HTTP method.
        template: the path.
        method: what is called.
        body: `*` if the body is the whole request, the name of the field that it is, or nothing.
    """

    verb: str
    template: PathTemplate
    method: MethodDescriptor
    body: str

    @property
    def is_about_tasks(self) -> bool:
        """True if it runs tasks, rather than listing what is served."""
        name: str = self.method.containing_service.name
        return not name.endswith("MetadataService")


def derive_routes(services: Iterable[ServiceDescriptor]) -> tuple[Route, ...]:
    """Return the routes of all methods; those with more literal segments come first, since they say more."""
    routes = [
        _route(method, rule)
        for service in services
        for method in service.methods
        for rule in _rules(method.GetOptions().Extensions[http_option])  # type: ignore[index] # its stub says FieldDescriptor
    ]
    return tuple(sorted(routes, key=lambda route: [isinstance(one, Field) for one in route.template.segments]))


def _rules(rule: HttpRule) -> list[HttpRule]:
    return [one for one in (rule, *rule.additional_bindings) if one.WhichOneof("pattern")]


def _route(method: MethodDescriptor, rule: HttpRule) -> Route:
    pattern = rule.WhichOneof("pattern")
    if pattern == "custom" or pattern is None or rule.response_body:
        raise ValueError(f"the HTTP rule of {method.full_name} cannot be served: custom verb or response_body")
    return Route(pattern.upper(), PathTemplate.parse(getattr(rule, pattern)), method, rule.body)


def find(routes: Iterable[Route], verb: str, raw_path: bytes) -> tuple[Route, dict[str, str]]:
    """Return the route that a request is for, and the texts of the fields in its path.

    Args:
        routes: what is served.
        verb: the request's HTTP method.
        raw_path: its path as it was sent, so that an encoded slash is part of a segment.

    Raises:
        Refused: there is no such path, or not with this method.
    """
    segments = _segments(raw_path)
    others = set()
    for route in routes:
        bound = route.template.match(segments)
        if bound is None:
            continue
        if route.verb == verb:
            return route, bound
        others.add(route.verb)
    if others:
        allowed = ", ".join(sorted(others))
        raise Refused(405, StatusCode.UNIMPLEMENTED, f"{verb} is not for this path: {allowed} is", {"Allow": allowed})
    raise Refused(404, StatusCode.NOT_FOUND, "unknown path; /openapi.json lists the paths")


def _segments(raw_path: bytes) -> list[str]:
    try:
        return [unquote_to_bytes(segment).decode() for segment in raw_path.removeprefix(b"/").split(b"/")]
    except UnicodeDecodeError:
        raise Refused(400, StatusCode.INVALID_ARGUMENT, "the path is not UTF-8 (percent-encoded)") from None
