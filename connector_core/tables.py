"""Tables of settings: classes with annotated fields, read from what an operator wrote, each mistake named with its place.

A value may be written as the type that a field has, or as the text that a variable of the environment can hold.
"""

import math
import operator
import types
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from connector_core.errors import SettingsError

__all__ = ["After", "Before", "Meta", "Mistake", "Table", "TableError", "described", "finite", "read", "read_table"]

TableT = TypeVar("TableT", bound="Table")


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


class Mistake(NamedTuple):
    """What is wrong with one value.

    Attributes:
        path: its key, after the keys and numbers of what it is in; none, where the table itself is wrong.
        message: what is wrong with it.
        known: the keys that there are, where this one is none of them.
    """

    path: tuple[str | int, ...]
    message: str
    known: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The path in one word."""
        return ".".join(map(str, self.path))


class TableError(ValueError):
    """What was written is no table of the kind that was asked for.

    Attributes:
        mistakes: all of them.
    """

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("; ".join(f"{one.where}: {one.message}" for one in mistakes))
        self.mistakes = mistakes

    def within(self, key: str | int) -> Iterator[Mistake]:
        """Return the mistakes as those of what has this one under a key."""
        return (Mistake((key, *one.path), one.message, one.known) for one in self.mistakes)


class Field(NamedTuple):
    """A field of a table, for those who write about it."""

    annotation: Any
    default: Any
    description: str


def read(kind: type[TableT], given: Mapping[str, Any]) -> TableT:
    """Return a table of what is given, for those who explain mistakes in their own words.

    Raises:
        TableError: with every mistake.
    """
    table: TableT = _reader(kind)(given)
    return table


def read_table(kind: type[TableT], given: Mapping[str, Any], title: str) -> TableT:
    """Return a table of what is given.

    Args:
        kind: the table's class.
        given: what the operator wrote, such as the `config` of a plugin.
        title: what the table is called in errors, such as `[plugins.warehouse]`.

    Raises:
        SettingsError: naming each key that is unknown or has an impossible value.
    """
    try:
        return read(kind, given)
    except TableError as error:
        raise SettingsError(f"{title}: {'; '.join(map(_explain, error.mistakes))}") from None


def described(kind: type[Table]) -> dict[str, Field]:
    """Return the fields of a table by name."""
    return {
        one.name: Field(_bare(one.type), _default(one), "".join(_descriptions(one.type)))
        for one in msgspec.structs.fields(kind)
    }


def finite(value: float) -> float:
    """Refuse infinity, and what is no number at all: for `After`."""
    if not math.isfinite(value):
        raise ValueError("Input should be a finite number")
    return value


def near(name: str, known: tuple[str, ...]) -> str:
    """Say which key may have been meant; nothing, where none is like it."""
    found = get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _explain(mistake: Mistake) -> str:
    if not mistake.known:
        return f"{mistake.where}: {mistake.message}" if mistake.path else mistake.message
    *tables, key = map(str, mistake.path)
    inside = f"{'.'.join(tables)}: " if tables else ""
    return f"{inside}unknown key {key!r}{near(key, mistake.known)}; known are {', '.join(mistake.known)}"


def _wrong(message: str) -> TableError:
    return TableError(Mistake((), message))


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _default(field: Any) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _descriptions(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        yield from (one for one in annotation.__metadata__ if isinstance(one, str))


# Readers, each made once for its type: they return a value of the type, or raise TableError.

_Reader = Callable[[Any], Any]


@cache
def _reader(annotation: Any) -> _Reader:
    origin = get_origin(annotation)
    if origin is None:
        return _plain(annotation)
    return _ORIGINS[origin](annotation)


def _plain(kind: Any) -> _Reader:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if issubclass(kind, Table):
        return _table(kind)

    def read_text(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str):
            return kind(value)
        raise _wrong("Input should be a valid string")

    return read_text


def _table(kind: type[Table]) -> _Reader:
    fields = msgspec.structs.fields(kind)
    types_, known = {one.name: one.type for one in fields}, tuple(sorted(one.name for one in fields))
    required = [one.name for one in fields if one.required]

    def read_fields(given: Any) -> Any:
        if isinstance(given, kind):
            return given
        if not isinstance(given, Mapping):
            raise _wrong("Input should be a table")
        values, mistakes = {}, [Mistake((name,), "is missing") for name in required if name not in given]
        for name, value in given.items():
            if name not in types_:
                mistakes.append(Mistake((name,), "is no key of this table", known))
                continue
            try:
                values[name] = _reader(types_[name])(value)
            except TableError as error:
                mistakes += error.within(name)
        if mistakes:
            raise TableError(*mistakes)
        return kind(**values)

    return read_fields


def _annotated(annotation: Any) -> _Reader:
    inner, notes = _reader(annotation.__origin__), annotation.__metadata__
    first = [one.function for one in notes if isinstance(one, Before)]
    last = [one.function for one in notes if isinstance(one, After)]
    bounds = [one for one in notes if isinstance(one, Meta)]

    def read_noted(value: Any) -> Any:
        try:
            for function in first:
                value = function(value)
            value = inner(value)
            for bound in bounds:
                _hold(value, bound)
            for function in last:
                value = function(value)
        except TableError:
            raise
        except ValueError as error:
            raise _wrong(str(error)) from None
        return value

    return read_noted


def _hold(value: Any, bound: Meta) -> None:
    for limit, holds, words in (
        (bound.ge, operator.ge, "greater than or equal to"),
        (bound.gt, operator.gt, "greater than"),
        (bound.le, operator.le, "less than or equal to"),
        (bound.lt, operator.lt, "less than"),
    ):
        if limit is not None and not holds(value, limit):
            raise ValueError(f"Input should be {words} {limit}")


def _union(annotation: Any) -> _Reader:
    readers = [_reader(one) for one in get_args(annotation) if one is not types.NoneType]
    takes_none = len(readers) < len(get_args(annotation))

    def read_one_of(value: Any) -> Any:
        if value is None and takes_none:
            return None
        for number, reader in enumerate(readers, 1):
            try:
                return reader(value)
            except TableError:
                if number == len(readers):
                    raise
        raise AssertionError("a union has members")

    return read_one_of


def _literal(annotation: Any) -> _Reader:
    allowed = get_args(annotation)
    words = " or ".join(filter(None, [", ".join(map(repr, allowed[:-1])), repr(allowed[-1])]))

    def read_literal(value: Any) -> Any:
        if value not in allowed:
            raise _wrong(f"Input should be {words}")
        return value

    return read_literal


def _sequence(annotation: Any) -> _Reader:
    kind, item = get_origin(annotation), _reader(get_args(annotation)[0])

    def read_items(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _wrong("Input should be a list")
        return kind(_each(((number, one, item) for number, one in enumerate(value))).values())

    return read_items


def _dict(annotation: Any) -> _Reader:
    key_reader, item = map(_reader, get_args(annotation))

    def read_dict(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong("Input should be a table")
        _each((key, key, key_reader) for key in value)
        return _each((key, one, item) for key, one in value.items())

    return read_dict


def _each(items: Iterator[tuple[Any, Any, _Reader]]) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    mistakes: list[Mistake] = []
    for key, value, reader in items:
        try:
            values[key] = reader(value)
        except TableError as error:
            mistakes += error.within(key)
    if mistakes:
        raise TableError(*mistakes)
    return values


_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on", 1), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off", 0), False),
}


def _bool(value: Any) -> bool:
    key = value.lower() if isinstance(value, str) else value
    if not isinstance(key, str | int) or key not in _BOOLEANS:
        raise _wrong("Input should be a valid boolean")
    return _BOOLEANS[key]


def _int(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (not isinstance(value, str) and number != value):
        raise _wrong("Input should be a valid integer")
    return number


def _float(value: Any) -> float:
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _wrong("Input should be a valid number")


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("Input should be a valid string")
    return value


def _any(value: Any) -> Any:
    return value


_PLAIN: Mapping[Any, _Reader] = {bool: _bool, int: _int, float: _float, str: _str, Any: _any}
_ORIGINS: Mapping[Any, Callable[[Any], _Reader]] = {
    Annotated: _annotated,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _sequence,
    list: _sequence,
    dict: _dict,
}
