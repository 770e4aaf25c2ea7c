"""From Python values to literals: the way in, by name or one by one."""

from collections.abc import Mapping
from typing import Any

from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType

from connector_core.literals.infer import fill
from connector_core.literals.refusal import Refusal, shown
from connector_core.literals.typed import fill_as


def to_literal(value: Any, literal_type: LiteralType | None = None) -> Literal:
    """Return a value's literal, of `literal_type` where that is given; `connector_core.literals` says which.

    Raises:
        LiteralError: the value has no literal, or does not match the type.
    """
    literal = Literal()
    try:
        _fill(literal, value, literal_type)
    except Refusal as refusal:
        raise refusal.to_error() from None
    return literal


def to_literal_map(values: Mapping[str, Any], types: Mapping[str, LiteralType] | None = None) -> LiteralMap:
    """Return literals by name, each of the type that `types` has for its name, if any.

    Raises:
        LiteralError: as in `to_literal`; the message names the output and the position in it.
    """
    literals = LiteralMap()
    known_types = types or {}
    for name, value in values.items():
        try:
            _fill(_entry(literals, name), value, known_types.get(name))
        except Refusal as refusal:
            raise refusal.to_error(f"output {shown(name)}") from None
    return literals


def _entry(literals: LiteralMap, name: Any) -> Literal:
    try:
        return literals.literals[name]
    except (TypeError, ValueError):
        raise Refusal("outputs are named by strings that UTF-8 can encode") from None


def _fill(literal: Literal, value: Any, literal_type: LiteralType | None) -> None:
    if literal_type is None:
        fill(literal, value, 0)
    else:
        fill_as(literal, value, literal_type, 0)
