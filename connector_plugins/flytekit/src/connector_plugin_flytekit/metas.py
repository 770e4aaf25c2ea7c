"""Resource metas as flytekit's connectors write and read them."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, ClassVar, Self

from flytekit.extend.backend.base_connector import ResourceMeta as FlytekitMeta

from connector_core import ResourceMeta
from connector_core.errors import InvalidResourceMetaError
from connector_plugin_flytekit.context import enter_own_context

PICKLES = frozenset({"pickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal", "shelve"})
"""Modules whose reading of bytes can run any code."""

_DEPTH = 3


class BridgedMeta(ResourceMeta):
    """A resource meta of flytekit's kind: its own `encode` and `decode` decide what is on the wire."""

    kind: ClassVar[Any]

    def __init__(self, theirs: Any) -> None:
        self.theirs = theirs

    def encode(self) -> bytes:
        """Return what flytekit's server would send."""
        encoded: bytes = self.theirs.encode()
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what flytekit's server, or this one, has sent.

        Raises:
            InvalidResourceMetaError: the connector's own `decode` cannot read it.
        """
        enter_own_context()
        try:
            return cls(_read(cls.kind, data))
        except Exception as error:
            name = getattr(cls.kind, "__name__", cls.kind)
            raise InvalidResourceMetaError(f"resource meta is not a {name}: {type(error).__name__}: {error}") from error


def meta_type(kind: Any) -> type[BridgedMeta]:
    """Return a type of resource meta for one of flytekit's."""
    return type(getattr(kind, "__name__", "Meta"), (BridgedMeta,), {"kind": kind})


def _read(kind: Any, data: bytes) -> Any:
    try:
        return kind.decode(data)
    except Exception:
        if not _is_plain(kind) or (known := _known_fields(kind, data)) is None:
            raise
    return kind.decode(known)


def _is_plain(kind: Any) -> bool:
    decode = getattr(kind, "decode", None)
    return getattr(decode, "__func__", None) is FlytekitMeta.decode.__func__ and dataclasses.is_dataclass(kind)


def _known_fields(kind: Any, data: bytes) -> bytes | None:
    """Leave out the fields that a newer version of the connector has added; `None` where that is not the trouble."""
    try:
        fields = json.loads(data)
    except ValueError:
        return None
    known = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(fields, dict) or known.issuperset(fields):
        return None
    return json.dumps({name: value for name, value in fields.items() if name in known}).encode()


def unpickles(kind: Any) -> str | None:
    """Return the name of the module with which `decode` reads bytes that can run any code; `None` where its code shows none.

    The code of `decode` is looked at, and that of functions of its own module that it calls: what is hidden behind more
    than that is not seen.
    """
    decode = getattr(kind, "decode", None)
    function = inspect.unwrap(getattr(decode, "__func__", decode)) if decode is not None else None
    return next(_pickles_in(function, _DEPTH), None) if isinstance(function, FunctionType) else None


def _pickles_in(function: FunctionType, depth: int) -> Iterator[str]:
    for name in _names(function.__code__):
        if name in PICKLES:  # imported in the function itself, or under its own name
            yield name
            continue
        value = function.__globals__.get(name)
        root = _root(value)
        if root in PICKLES:
            yield root
        elif isinstance(value, FunctionType) and value.__module__ == function.__module__ and depth:
            yield from _pickles_in(value, depth - 1)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _root(value: Callable[..., Any] | object) -> str:
    name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return name.split(".")[0] if isinstance(name, str) else ""
