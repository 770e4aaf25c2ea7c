"""How tables are declared: classes with annotated fields."""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A table of settings: subclass it (`frozen=True`) with annotated fields. Its constructor does not validate; `read` does.

    Fields may be `str`, `int`, `float`, `bool`, `Any`, a `Literal`, another table, a class that is made of a text (`Path`), and
    lists, tuples, dicts and optionals of these. `Annotated` adds a description (a text), bounds (`Meta`), and functions
    (`Before`, `After`) that change a value or refuse it (`ValueError`).
    """


class Before(NamedTuple):
    """What is done to a value before its type is looked at."""

    function: Callable[[Any], Any]


class After(NamedTuple):
    """What is done to a value of the right type."""

    function: Callable[[Any], Any]


def finite(value: float) -> float:
    """Refuse infinity, and what is no number at all: for `After`."""
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


class Field(NamedTuple):
    """A field of a table, for those who write about it."""

    annotation: Any
    default: Any
    description: str


def described(kind: type[Table]) -> dict[str, Field]:
    """Return the fields of a table by name."""
    return {
        one.name: Field(_bare(one.type), _default(one), "".join(_descriptions(one.type)))
        for one in msgspec.structs.fields(kind)
    }


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _default(field: Any) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _descriptions(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        yield from (one for one in annotation.__metadata__ if isinstance(one, str))
