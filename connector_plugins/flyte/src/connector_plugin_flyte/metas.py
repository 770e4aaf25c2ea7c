"""Resource metas of flyte's connectors: read and written by their own classes, so that the bytes are the same as today's."""

import dataclasses
import json
from typing import Any, ClassVar, Self

from connector_core.errors import InvalidResourceMetaError
from connector_core.resource_meta import ResourceMeta


@dataclasses.dataclass
class FlyteMeta(ResourceMeta):
    """A resource meta of a flyte connector in the host's clothes.

    Attributes:
        kind: the connector's own class, on the subclass that `meta_type_of` makes.
        theirs: the connector's own object.
    """

    kind: ClassVar[Any]
    theirs: Any

    def encode(self) -> bytes:
        """Return what flyte's own server would send."""
        encoded: bytes = self.theirs.encode()
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what either server has sent.

        Fields that the connector's class does not know are left out, where it refuses them: a newer version may have written
        them.

        Raises:
            InvalidResourceMetaError: naming the field that is missing, or what the class itself says.
        """
        try:
            return cls(cls.kind.decode(data))
        except Exception as error:
            known = _without_unknown_fields(cls.kind, data, error)
            if known == data:
                raise InvalidResourceMetaError(f"resource meta is not a {cls.kind.__name__}: {_why(error)}") from error
        try:
            return cls(cls.kind.decode(known))
        except Exception as error:
            raise InvalidResourceMetaError(f"resource meta is not a {cls.kind.__name__}: {_why(error)}") from error


def meta_type_of(kind: type[Any]) -> type[FlyteMeta]:
    """Return the host's type for the resource metas of one flyte connector."""
    return type(kind.__name__, (FlyteMeta,), {"kind": kind, "__module__": kind.__module__})


def _without_unknown_fields(kind: type[Any], data: bytes, error: Exception) -> bytes:
    """Return the JSON with the fields that a dataclass has.

    Raises:
        InvalidResourceMetaError: it is not a JSON object, or lacks a field.
    """
    name = kind.__name__
    try:
        fields = json.loads(data)
    except ValueError:
        raise InvalidResourceMetaError(f"resource meta is not a {name}: its {len(data)} bytes are not JSON") from error
    if not isinstance(fields, dict):
        raise InvalidResourceMetaError(f"resource meta is not a {name}: it is JSON, but not an object") from error
    if not dataclasses.is_dataclass(kind):
        return data
    own = {field.name: field for field in dataclasses.fields(kind)}
    for field in own.values():
        if field.init and field.name not in fields and _is_required(field):
            message = f"resource meta is not a {name}: field {field.name!r} is missing"
            raise InvalidResourceMetaError(message, field=field.name) from error
    known = {key: value for key, value in fields.items() if key in own}
    return data if known == fields else json.dumps(known).encode()


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
