"""How messages travel between the host and a query process."""

import os
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from connector_plugin_duckdb.values import Column, SqlType
from connector_plugin_duckdb.wire import (
    Described,
    Failed,
    RefusalError,
    Rows,
    decode_answer,
    encode,
    pack,
    receive,
)


def body(data: bytes) -> bytes:
    return data[4:]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**63),
        2**64 - 1,
        2**200,
        -(2**100),
        0.5,
        "ä\0",
        b"\xff",
        datetime(2024, 2, 29, 12, 0, 0, 1, UTC),
        datetime(2024, 2, 29),  # noqa: DTZ001 - such ones are kept as they are
        date(2024, 2, 29),
        timedelta(-3, 4, 5),
        Decimal("1.10"),
        [1, [None, {"a": [2**70]}]],
    ],
)
def test_a_value_is_the_same_on_the_other_side(value: Any) -> None:
    answer = decode_answer(body(encode(Rows([[pack(value)]]))))
    assert isinstance(answer, Rows)
    found = answer.rows[0][0]
    assert found == value
    assert type(found) is type(value)


def test_a_moment_arrives_in_utc() -> None:
    moment = datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    answer = decode_answer(body(encode(Rows([[pack(moment)]]))))
    assert isinstance(answer, Rows)
    assert repr(answer.rows[0][0]) == repr(datetime(2024, 1, 1, tzinfo=UTC))


def test_columns_keep_their_types() -> None:
    kind = SqlType("list", "INTEGER[]", (("child", SqlType("integer", "INTEGER")),))
    assert decode_answer(body(encode(Described([Column("n", kind)], 1)))) == Described([Column("n", kind)], 1)


def test_what_cannot_travel_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a value of type object"):
        pack({"a": [object()]})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no",
        b"\x80",
        b"\x81\xa4type\xa3Sys",
        bytes([0x91] * 100_000),
        encode(Failed("other", "x"))[4:],  # type: ignore[arg-type]
    ],
)
def test_data_that_is_not_an_answer_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the decoder's
        decode_answer(data)


def test_a_message_is_not_read_beyond_its_largest_size() -> None:
    reader, writer = os.pipe()
    os.write(writer, (10**9).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="1000000000 bytes; at most 100"):
        receive(reader, 100, lambda _descriptor: None)
    os.close(writer)
    with pytest.raises(EOFError):
        receive(reader, 100, lambda _descriptor: None)
    os.close(reader)


def test_the_text_of_a_failure_is_cut() -> None:
    assert len(Failed.of(RefusalError("invalid", "x" * 10**6)).message) == 20_000
