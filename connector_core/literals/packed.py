"""Binary literals of msgpack, as flytekit writes them since 1.14."""

from collections.abc import Callable
from typing import Any

import msgpack
from flyteidl.core.literals_pb2 import Binary as BinaryLiteral

from connector_core.literals.kinds import name_of
from connector_core.literals.plain import plain
from connector_core.literals.refusal import Refusal
from connector_core.literals.values import MSGPACK

_pack: Callable[[Any], bytes] = msgpack.dumps
_unpack: Callable[..., Any] = msgpack.loads


def fill_msgpack(binary: BinaryLiteral, value: Any) -> None:
    """Pack a value into a binary literal."""
    data = plain(value, 0)
    try:
        binary.value = _pack(data)
    except ValueError as error:  # lone surrogates
        raise Refusal(f"{name_of(value)} cannot be written as msgpack: {error}") from None
    binary.tag = MSGPACK


def read_msgpack(data: bytes) -> Any:
    """Return what was packed."""
    try:
        return _unpack(data, strict_map_key=False, timestamp=3, ext_hook=_refuse_extension)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise Refusal(f"a binary literal with tag 'msgpack' that is no valid msgpack: {reason}") from None


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise Refusal(f"msgpack with an extension of type {code}, whose meaning only its writer knows")
