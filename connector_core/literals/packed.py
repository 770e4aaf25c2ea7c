"""Binary literals of msgpack, as flytekit writes them since 1.14."""

from typing import Any

import msgspec
from flyteidl.core.literals_pb2 import Binary as BinaryLiteral

from connector_core.literals.kinds import name_of
from connector_core.literals.plain import plain
from connector_core.literals.refusal import Refusal
from connector_core.literals.values import MSGPACK


def fill_msgpack(binary: BinaryLiteral, value: Any) -> None:
    """Pack a value into a binary literal."""
    data = plain(value, 0)
    try:
        binary.value = msgspec.msgpack.encode(data)
    except ValueError as error:  # lone surrogates
        raise Refusal(f"{name_of(value)} cannot be written as msgpack: {error}") from None
    binary.tag = MSGPACK


def read_msgpack(data: bytes) -> Any:
    """Return what was packed."""
    try:
        return _decoder.decode(data)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise Refusal(f"a binary literal with tag 'msgpack' that is not valid msgpack: {reason}") from None


def _refuse_extension(code: int, _data: memoryview) -> Any:
    raise Refusal(f"msgpack with an extension of type {code}, whose meaning only its writer knows")


_decoder = msgspec.msgpack.Decoder(ext_hook=_refuse_extension)
