"""The load generator counts right answers, and nothing else."""

import asyncio
import itertools
from collections import Counter

import pytest
from flyteidl.admin import agent_pb2

from connector_core import JobNotFoundError, Phase, Resource
from connector_core.testing.harness import RunningServer, running_server
from tests.benchmarks.instructions import Job, Meta
from tests.benchmarks.wire_load import Call, Load, LoadError, drive

RUNNING = agent_pb2.GetTaskResponse(resource=agent_pb2.Resource(phase=Phase.RUNNING.value)).ByteSize()


class Watched(Job):
    """Counts who asks for what."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def get(self, resource_meta: Meta) -> Resource:
        self.asked[resource_meta.job_id] += 1
        if resource_meta.job_id == "n00000013":
            raise JobNotFoundError("13 is no job")
        return Resource(Phase.RUNNING)


def get(answer_size: int) -> Call:
    category = agent_pb2.TaskCategory(name="job")
    request = agent_pb2.GetTaskRequest(task_category=category, resource_meta=Meta("n00000000").encode())
    return Call("/flyteidl.service.AsyncAgentService/GetTask", [request.SerializeToString()], answer_size)


async def load(server: RunningServer, call: Call, numbers: "itertools.count[int]", calls: int) -> Load:
    return await asyncio.to_thread(drive, server.address, call, numbers=numbers, calls=calls)


async def test_each_call_is_made_once_and_about_a_job_of_its_own() -> None:
    connector = Watched()
    async with running_server(connector) as server:
        done = await load(server, get(RUNNING), itertools.count(100), 500)
    assert done.calls == 500
    assert connector.asked == Counter(f"n{number:08}" for number in range(100, 600))


async def test_an_answer_of_another_size_is_no_answer() -> None:
    async with running_server(Watched()) as server:
        with pytest.raises(
            LoadError, match=f"with {5 + RUNNING} bytes of data, where a right answer has {RUNNING + 6}"
        ):
            await load(server, get(RUNNING + 1), itertools.count(), 10)


async def test_a_call_that_fails_ends_the_measurement() -> None:
    async with running_server(Watched(), settings={"permanent_create_failures": "status"}) as server:
        with pytest.raises(LoadError, match="a right answer has 9"):
            await load(server, get(RUNNING), itertools.count(), 20)


async def test_more_bytes_than_a_window_are_sent_as_the_server_takes_them() -> None:
    request = agent_pb2.CreateTaskRequest(output_prefix="s3://bucket/n00000000/0")
    request.template.type = "job"
    request.inputs.literals["text"].scalar.primitive.string_value = "x" * 20_000
    answer = agent_pb2.CreateTaskResponse(resource_meta=Meta("job").encode()).ByteSize()
    call = Call("/flyteidl.service.AsyncAgentService/CreateTask", [request.SerializeToString()], answer)
    async with running_server(Watched()) as server:
        assert (await load(server, call, itertools.count(), 200)).calls == 200
