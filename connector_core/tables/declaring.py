"""Declarations of tables: classes with annotated fields."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, cast, get_args, get_origin

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A table of settings: subclass it (`frozen=True`) with annotated fields. Its constructor does not validate; `read` does.

    Fields may be `str`, `int`, `float`, `bool`, `Any`, a `Literal`, another table, a class that is made of a text (`Path`), and
    lists, tuples, dicts and optionals of these. `Annotated` adds a description (a text), bounds (`Meta`), and functions
    (`Before`, `After`) that change a value or refuse it (`ValueError`).
    """


def made_table(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[Table]:
    """Return a table whose fields come from elsewhere: the annotation and the default of each, by name."""
    declared = [(field, annotation, default) for field, (annotation, default) in fields.items()]
    made = msgspec.defstruct(name, declared, bases=(Table,), module=__name__, frozen=True)
    return cast("type[Table]", made)


class Before(NamedTuple):
    """A function applied to a value before its type is checked."""

    function: Callable[[Any], Any]


class After(NamedTuple):
    """A function applied to a value of the right type."""

    function: Callable[[Any], Any]


class Flag(NamedTuple):
    """A field that is an option of the command line as well.

    Attributes:
        spellings: how the option is written; else it is the field's name, with dashes.
        metavar: what stands for its value in help texts; else that of the field's type.
    """

    spellings: tuple[str, ...] = ()
    metavar: str = ""


def finite(value: float) -> float:
    """Refuse infinity and NaN: for `After`."""
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


class Field(NamedTuple):
    """A field of a table, for those who write about it.

    Attributes:
        annotation: its type, without what is added to it.
        default: its default value.
        description: a sentence on what it does.
        flag: how the command line has it; `None` where it does not.
    """

    annotation: Any
    default: Any
    description: str
    flag: Flag | None = None


def described(kind: type[Table]) -> dict[str, Field]:
    """Return the fields of a table by name."""
    return {one.name: _described(one) for one in msgspec.structs.fields(kind)}


def _described(field: Any) -> Field:
    is_annotated = get_origin(field.type) is Annotated
    bare, notes = (get_args(field.type)[0], field.type.__metadata__) if is_annotated else (field.type, ())
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    description = "".join(note for note in notes if isinstance(note, str))
    return Field(bare, default, description, next((note for note in notes if isinstance(note, Flag)), None))
