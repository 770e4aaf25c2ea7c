"""Whatever comes over the wire is answered with a sensible status, and nothing of it stays behind."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random

import pytest
from flyteidl.admin import agent_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.support.echo import echoes
from tests.support.garble import SIGNING_KEY, Garbler, nested
from tests.support.wire import METHODS, Sent, WireHost, drive, no_alarms

Drive = Callable[[Iterable[Sent]], Counter[str]]

IN_PLACE = ["test-vouched"]
SIGNING = {"keys": [SIGNING_KEY.decode()]}


@pytest.fixture(scope="module", params=["unsigned", "signing"])
def host(request: pytest.FixtureRequest) -> Iterator[Drive]:
    """A host to drive, from which nothing may be left when it has been driven."""
    signing = SIGNING if request.param == "signing" else {}
    with no_alarms(), asyncio.Runner() as runner:

        async def make() -> WireHost:
            return WireHost(*echoes(), in_place=IN_PLACE, memory={"entries": 2000}, signing=signing)

        made = runner.run(make())
        yield lambda requests: runner.run(drive(made, requests))
        runner.run(settled(made))
        runner.run(made.close())


async def settled(host: WireHost) -> None:
    """Return when all that was asked for is over, and is counted as over."""
    async with asyncio.timeout(20):
        while host.invoker.abandoned or host.in_flight():  # noqa: ASYNC110 - counters have no event to wait for
            await asyncio.sleep(0.01)


def one_by_one(garbler: Garbler, number: int) -> list[Sent]:
    return [garbler.request() for _ in range(number)]


@pytest.mark.parametrize("seed", range(2))
def test_requests_of_every_kind_are_answered_sensibly(host: Drive, seed: int) -> None:
    answered = host(one_by_one(Garbler(seed, signed=0.5), 1000))
    assert {name.split()[0] for name in answered} == set(METHODS)
    assert {name.split()[0] for name in answered if name.endswith(" OK")} == set(METHODS)


@given(randoms=st.randoms(use_true_random=False))
def test_whatever_is_made_up_is_answered_sensibly(host: Drive, randoms: Random) -> None:
    host(one_by_one(Garbler(randoms, signed=0.5), 20))


@given(
    sent=st.lists(st.builds(Sent, st.sampled_from(sorted(METHODS)), st.tuples(st.binary(max_size=200))), max_size=20)
)
def test_arbitrary_bytes_are_answered_sensibly(host: Drive, sent: list[Sent]) -> None:
    host(sent)


@given(messages=st.lists(st.lists(st.binary(max_size=50), max_size=4).map(tuple), max_size=10))
def test_arbitrary_streams_are_answered_sensibly(host: Drive, messages: list[tuple[bytes, ...]]) -> None:
    host(Sent("ExecuteTaskSync", one) for one in messages)


@pytest.mark.parametrize("method", METHODS)
def test_a_message_that_is_torn_anywhere_is_answered_sensibly(host: Drive, method: str) -> None:
    whole = Garbler(7).whole(method)
    host(Sent(method, (whole[:end],)) for end in range(len(whole) + 1))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"ListAgents"}))
@pytest.mark.parametrize("seed", range(5))
def test_a_message_with_an_endless_field_is_answered_sensibly(host: Drive, method: str, seed: int) -> None:
    host([Sent(method, (Garbler(seed).oversized(method, 5_000_000),))])


def test_inputs_nested_to_any_depth_are_answered_sensibly(host: Drive) -> None:
    answered = host(Sent("CreateTask", (nested(levels),)) for levels in [*range(1, 110), 1000, 10_000])
    assert set(answered) == {"CreateTask OK", "CreateTask INVALID_ARGUMENT"}


def test_fields_of_a_newer_protocol_change_nothing(host: Drive) -> None:
    for method, seed in itertools.product(METHODS, range(20)):
        plain = host([Sent(method, (Garbler(seed).whole(method),))])
        garbler = Garbler(seed)
        whole = garbler.whole(method)
        assert host([Sent(method, (garbler.padding() + whole + garbler.padding(),))]) == plain


HEADER = agent_pb2.ExecuteTaskSyncRequest(header={"template": {"type": "sync"}}).SerializeToString()
INPUTS = agent_pb2.ExecuteTaskSyncRequest(inputs={}).SerializeToString()
ASYNC_HEADER = agent_pb2.ExecuteTaskSyncRequest(header={"template": {"type": "echo"}}).SerializeToString()
PIECES = {"header": HEADER, "async header": ASYNC_HEADER, "inputs": INPUTS, "nothing": b"", "garbage": b"\xff\xff"}


@pytest.mark.parametrize("length", range(4))
def test_the_messages_of_a_stream_in_any_order_are_answered_sensibly(host: Drive, length: int) -> None:
    for order in itertools.product(PIECES, repeat=length):
        (answered,) = host([Sent("ExecuteTaskSync", tuple(PIECES[name] for name in order))])
        if order[:1] == ("async header",):
            assert answered == "ExecuteTaskSync UNIMPLEMENTED"
        elif order in {("header",), ("header", "inputs")} or order[:2] == ("header", "inputs"):
            assert answered == "ExecuteTaskSync OK"
        else:
            assert answered == "ExecuteTaskSync INVALID_ARGUMENT"
