"""The harness of the wire's faults notices what it is there to notice."""

import pytest
from flyteidl.admin import agent_pb2
from grpc import StatusCode

from connector_core import Phase, Resource
from tests.fakes import Answers
from tests.support.garble import Garbler
from tests.support.wire import Reply, Sent, WireHost, drive, problem

HEADER = agent_pb2.ExecuteTaskSyncRequest(header={"template": {"type": "sync"}}).SerializeToString()


def test_one_seed_gives_the_same_requests_again() -> None:
    first, second, third = Garbler(1), Garbler(1), Garbler(2)
    requests = [first.request() for _ in range(50)]
    assert requests == [second.request() for _ in range(50)]
    assert requests != [third.request() for _ in range(50)]


async def test_a_servicer_that_fails_is_noticed() -> None:
    host = WireHost(Answers("sync"))
    del host.registry._by_name  # a bug of the host's own
    with pytest.raises(AssertionError, match=r"GetAgent.*it was answered INTERNAL: internal error in the host"):
        await drive(host, [Sent("GetAgent", (b"\x0a\x01x",))])
    await host.close()


async def test_a_connector_that_fails_is_noticed() -> None:
    async def do() -> Resource:
        raise ZeroDivisionError

    host = WireHost(Answers("sync", do=do))
    with pytest.raises(
        AssertionError, match=r"ExecuteTaskSync.*it was answered INTERNAL: plugin 'test-sync connector'"
    ):
        await drive(host, [Sent("ExecuteTaskSync", (HEADER,))])
    await host.close()


@pytest.mark.parametrize(
    ("method", "reply", "says"),
    [
        ("GetTask", Reply(StatusCode.UNKNOWN, unexpected=KeyError("x")), "KeyError came out of the servicer"),
        ("GetTask", Reply(StatusCode.INVALID_ARGUMENT, "x" * 5000), "take 5000 bytes on the wire"),
        ("GetTask", Reply(StatusCode.INVALID_ARGUMENT, "Traceback (most recent call last)"), "have a traceback"),
        ("GetTask", Reply(StatusCode.PERMISSION_DENIED, "not signed"), "answered PERMISSION_DENIED"),
        ("GetTask", Reply(StatusCode.DEADLINE_EXCEEDED, "late"), "answered DEADLINE_EXCEEDED"),
        ("GetTask", Reply(messages=[agent_pb2.GetTaskResponse().SerializeToString()]), "has the phase 0"),
        ("CreateTask", Reply(messages=[b""]), "without a resource meta"),
        ("ListAgents", Reply(StatusCode.NOT_FOUND, "none"), "answered NOT_FOUND"),
    ],
)
def test_what_is_not_sensible_is_noticed(method: str, reply: Reply, says: str) -> None:
    found = problem(Sent(method, (b"",)), reply, is_signing=False)
    assert found is not None
    assert says in found
    good = Reply(messages=[agent_pb2.GetTaskResponse(resource={"phase": Phase.RUNNING.value}).SerializeToString()])
    assert problem(Sent("GetTask", (b"",)), good, is_signing=False) is None
