"""Kinds of Python values: the exact types that conversions know, and the stand-ins for all others."""

import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

from flyteidl.core.literals_pb2 import Literal
from google.protobuf.struct_pb2 import Struct

from connector_core.literals.values import Binary, Directory, ErrorValue, File, Schema, StructuredDataset


class Record:
    """Stands for dataclasses."""


class Model:
    """Stands for pydantic models."""


_SCALARS = frozenset({NoneType, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID})
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_LITERALS = frozenset({File, Directory, Schema, StructuredDataset, Binary, ErrorValue, Literal, Struct})
_EXACT: frozenset[type] = _SCALARS | _CONTAINERS | _LITERALS

# In this order: a member of a str enum is an enum, a datetime is a date too.
_BASES: tuple[tuple[type, type], ...] = (
    (Enum, Enum),
    (int, int),
    (float, float),
    (str, str),
    (bytes, bytes),
    (bytearray, bytes),
    (datetime, datetime),
    (date, date),
    (timedelta, timedelta),
    (Mapping, dict),
    (list, list),
    (tuple, tuple),
    (set, set),
    (PurePath, PurePath),
)

_SCALAR_DTYPES = frozenset("biufU")


def known(value: Any) -> tuple[Any, type | None]:
    """Return a value and the type to look it up by: its own, that of a base, `Record`, `Model`, or `None`.

    Array libraries' scalars (NumPy's, without importing it) come back as Python's.
    """
    kind = type(value)
    if kind in _EXACT:
        return value, kind
    value = _unboxed(value)
    if type(value) in _EXACT:
        return value, type(value)
    for base, stand_in in _BASES:
        if isinstance(value, base):
            return value, stand_in
    if is_dataclass(value) and not isinstance(value, type):
        return value, Record
    return value, Model if _is_model(value) else None


def name_of(value: Any) -> str:
    """Return what an error calls a value: `nothing (None)`, or its type with an article."""
    if value is None:
        return "nothing (None)"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in set('aeiou') else 'a'} {name}"


def _unboxed(value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) in _SCALAR_DTYPES and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _is_model(value: Any) -> bool:
    """Say whether a value is a pydantic model; there is none before pydantic is imported, which takes a while."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)
