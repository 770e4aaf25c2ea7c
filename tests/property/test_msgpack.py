"""Binary literals are packed byte for byte as the msgpack library does, which flytekit packs and reads with."""

import math
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from flyteidl.core.literals_pb2 import Binary
from hypothesis import given
from hypothesis import strategies as st

from connector_core.literals.packed import fill_msgpack, read_msgpack

KEYS = st.text() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.booleans() | st.binary()
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
DATA = st.recursive(SCALARS, lambda items: st.lists(items) | st.dictionaries(KEYS, items), max_leaves=20)


packed: Callable[[Any], bytes] = msgpack.packb


@given(DATA)
def test_data_is_packed_as_msgpack_packs_it_and_read_as_it_was(data: Any) -> None:
    binary = Binary()
    fill_msgpack(binary, data)
    assert binary.value == packed(data)
    assert read_msgpack(binary.value) == data


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_packed_too(number: float) -> None:
    binary = Binary()
    fill_msgpack(binary, number)
    assert binary.value == packed(number)
    assert repr(read_msgpack(binary.value)) == repr(number)
