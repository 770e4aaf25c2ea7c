"""Frames: they arrive as they were sent, however they are cut; what breaks the grammar is refused before it is kept."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_core.locations.heads import ErrorHead, from_json
from connector_core.locations.wire import FROM_LOCATION, TO_LOCATION, Frame, FrameReader, Kind, WireError, encode, split

LIMIT = 1000

kinds = st.sampled_from(sorted(FROM_LOCATION))
frames = st.builds(Frame, kinds, st.integers(0, 2**32 - 1), st.binary(max_size=200), st.binary(max_size=200))


@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 50), min_size=1))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(b"".join(encode(frame.kind, frame.call, frame.head, [frame.body])) for frame in sent)
    reader = FrameReader(FROM_LOCATION, LIMIT)
    arrived: list[Frame] = []
    begin = at = 0
    while begin < len(data):
        size = cuts[at % len(cuts)]
        arrived += reader.feed(data[begin : begin + size])
        begin, at = begin + size, at + 1
    assert arrived == sent


def test_a_frame_that_is_too_large_is_refused_by_its_header_alone() -> None:
    with pytest.raises(WireError, match="a frame of 1,001 bytes, where 1,000 are the limit"):
        FrameReader(FROM_LOCATION, LIMIT).feed(struct.pack("!BIIQ", Kind.ANSWER, 1, 1, LIMIT))
    with pytest.raises(WireError, match="are the limit"):
        FrameReader(FROM_LOCATION, LIMIT).feed(struct.pack("!BIIQ", Kind.ANSWER, 1, 0, 2**64 - 1))


@pytest.mark.parametrize("number", [0, 99, Kind.CALL])
def test_a_frame_of_another_kind_is_refused(number: int) -> None:
    with pytest.raises(WireError, match=f"a frame of kind {int(number)}"):
        FrameReader(FROM_LOCATION, LIMIT).feed(struct.pack("!BIIQ", number, 1, 0, 0))


def test_each_kind_goes_one_way() -> None:
    assert not TO_LOCATION & FROM_LOCATION
    assert set(Kind) == TO_LOCATION | FROM_LOCATION


def test_a_body_is_cut_by_the_sizes_of_its_head() -> None:
    assert list(split(b"abcdef", [2, 0, 4])) == [b"ab", b"", b"cdef"]
    assert list(split(b"", [])) == []


@pytest.mark.parametrize("sizes", [[7], [5], [-1, 7], []])
def test_sizes_that_are_not_those_of_the_body_are_refused(sizes: list[int]) -> None:
    with pytest.raises(WireError):
        list(split(b"abcdef", sizes))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"kind": 1, "message": ""}', b"\xff"])
def test_a_head_that_is_another_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="a head that is not a ErrorHead"):
        from_json(data, ErrorHead)
