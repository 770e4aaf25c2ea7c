"""Whatever `custom_info` holds goes out as JSON readers take it, and no poll fails of it."""

import enum
import math
from collections import UserDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from connector_core import Phase, Resource
from connector_core.invocation.answers import encode_answer
from connector_core.invocation.custom_info import to_struct
from connector_core.literals import to_literal_map


class Color(enum.Enum):
    RED = "red"


@dataclass
class Usage:
    cpu: float
    labels: dict[str, str]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Unreadable(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("gone")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def sent(values: Any) -> tuple[Any, list[str]]:
    """Return what a JSON reader reads, and the kinds of things that were noted."""
    noted: dict[str, None] = {}
    struct = to_struct(values, lambda kind, _text: noted.setdefault(kind))
    if struct is None:
        return None, list(noted)
    resource = agent_pb2.Resource.FromString(agent_pb2.Resource(custom_info=struct).SerializeToString())
    MessageToJson(resource)
    return MessageToDict(resource.custom_info), list(noted)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("text", "text"),
        (True, True),
        (None, None),
        (3, 3),
        (-(2**53), -(2**53)),
        (0.5, 0.5),
        ([1, ("a",), {"b": None}], [1, ["a"], {"b": None}]),
        ({}, {}),
        ([], []),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Color.RED, "red"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (PurePosixPath("/a"), "/a"),
        (Usage(0.5, {"a": "b"}), {"cpu": 0.5, "labels": {"a": "b"}}),
        (deque([1]), [1]),
        (UserDict(a=1), {"a": 1}),
        ("caf\udce9", "caf?"),
        (ParseDict({"a": [1]}, Struct()), {"a": [1]}),
    ],
    ids=repr,
)
def test_plain_data_goes_out_as_it_is(value: Any, read: Any) -> None:
    assert sent({"x": value}) == ({"x": read}, [])


@pytest.mark.parametrize(
    ("value", "read", "kind"),
    [
        (math.nan, "NaN", "not finite"),
        (math.inf, "Infinity", "not finite"),
        (-math.inf, "-Infinity", "not finite"),
        (2**53 + 1, str(2**53 + 1), "large number"),
        (-(2**60), str(-(2**60)), "large number"),
        (10**5000, hex(10**5000), "large number"),
        (b"caf\xe9", "caf\ufffd", "other"),
        (1j, "1j", "other"),
        (Unprintable(), "(a Unprintable, not printable: RuntimeError)", "other"),
    ],
    ids=["nan", "inf", "-inf", "2**53+1", "-2**60", "10**5000", "bytes", "complex", "unprintable"],
)
def test_what_json_has_not_goes_out_as_text_and_is_noted(value: Any, read: str, kind: str) -> None:
    assert sent({"x": value}) == ({"x": read}, [kind])
    assert sent({"x": [{"y": value}]}) == ({"x": [{"y": read}]}, [kind])


def test_what_contains_itself_is_cut() -> None:
    itself: list[Any] = []
    itself += [itself, itself, {"a": itself}]
    _, noted = sent({"x": itself})
    assert noted == ["too deep"]


@pytest.mark.parametrize("values", [Unreadable(), object(), "text", 3, [1, 2]], ids=lambda value: type(value).__name__)
def test_what_cannot_be_read_is_left_out(values: Any) -> None:
    assert sent(values) == (None, ["unreadable"])


def test_it_may_be_a_dataclass_pairs_or_a_struct() -> None:
    assert sent(Usage(1, {})) == ({"cpu": 1, "labels": {}}, [])
    assert sent([("a", 1)]) == ({"a": 1}, [])
    struct = Struct()
    struct.update({"a": math.nan, "b": [{"c": math.inf}]})
    assert sent(struct) == ({"a": "NaN", "b": [{"c": "Infinity"}]}, ["not finite"])
    assert math.isnan(struct.fields["a"].number_value), "the author's own stays as it is"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,  # to make larger values takes ten seconds
)


@given(st.dictionaries(st.text(), ANYTHING, max_size=4))
def test_anything_goes_out(values: dict[str, Any]) -> None:
    read, _ = sent(values)
    assert read is not None
    assert len(read) == len(values)


def noted_of(answer: object) -> tuple[agent_pb2.Resource, list[str]]:
    noted: list[str] = []
    return encode_answer("get", answer, note=lambda kind, _text: noted.append(kind)), noted


def test_an_answer_with_what_cannot_be_read_goes_out_without_it() -> None:
    resource, noted = noted_of(Resource(Phase.RUNNING, custom_info=Unreadable()))
    assert (Phase(resource.phase), resource.HasField("custom_info"), noted) == (Phase.RUNNING, False, ["unreadable"])


def test_what_a_bridge_answers_is_made_sendable_too() -> None:
    answer = agent_pb2.Resource(phase=Phase.RUNNING.value, outputs=to_literal_map({"x": 1}))
    answer.custom_info.update({"a": math.nan})
    resource, noted = noted_of(answer)
    assert MessageToDict(resource.custom_info) == {"a": "NaN"}
    assert not resource.HasField("outputs")
    assert noted == ["not finite", "early outputs"]


@pytest.mark.parametrize("phase", Phase)
def test_outputs_go_out_with_a_last_phase_alone(phase: Phase) -> None:
    resource, noted = noted_of(Resource(phase, outputs={"x": 1}))
    assert resource.HasField("outputs") == phase.is_terminal
    assert noted == ([] if phase.is_terminal else ["early outputs"])


def test_no_outputs_before_the_last_phase_are_nothing_to_note() -> None:
    assert noted_of(Resource(Phase.RUNNING, outputs={}))[1] == []
