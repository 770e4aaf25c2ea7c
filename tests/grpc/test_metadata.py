"""`AgentMetadataService` over the wire: which connectors there are."""

import grpc
from flyteidl.admin import agent_pb2

from connector_core.testing import running_server
from tests.fakes import Answers, Jobs
from tests.support.rpc import details_of, refusal


async def test_every_connector_is_listed_with_both_kinds_of_task_types() -> None:
    async with running_server(Jobs(name="Spark", task_categories=["spark", "spark@1"]), Answers("ask")) as host:
        agents = await host.list_connectors()
    assert agents == [
        agent_pb2.Agent(
            name="Spark",
            is_sync=False,
            supported_task_types=["spark"],
            supported_task_categories=[
                agent_pb2.TaskCategory(name="spark", version=0),
                agent_pb2.TaskCategory(name="spark", version=1),
            ],
        ),
        agent_pb2.Agent(
            name="ask connector",
            is_sync=True,
            supported_task_types=["ask"],
            supported_task_categories=[agent_pb2.TaskCategory(name="ask", version=0)],
        ),
    ]


async def test_a_host_without_connectors_lists_none() -> None:
    async with running_server() as host:
        assert await host.list_connectors() == []


async def test_a_connector_is_found_by_its_name() -> None:
    async with running_server(Jobs("spark"), Jobs("hive")) as host:
        request = agent_pb2.GetAgentRequest(name="hive connector")
        answer: agent_pb2.GetAgentResponse = await host.metadata_stub.GetAgent(request)
    assert answer.agent.supported_task_types == ["hive"]


async def test_an_unknown_name_is_not_found_and_what_exists_is_named() -> None:
    async with running_server(Jobs("spark"), Jobs("hive")) as host:
        error = await refusal(host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="sparc connector")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(error) == (
        "no connector is named 'sparc connector' (near names: 'spark connector', 'hive connector'); "
        "this host has hive connector, spark connector"
    )


async def test_a_connector_that_a_program_adds_later_is_found_though_not_listed() -> None:
    async with running_server(Jobs("spark")) as host:
        host.server.registry.register(Jobs("late"))
        answer = await host.metadata_stub.GetAgent(agent_pb2.GetAgentRequest(name="late connector"))
        assert answer.agent.name == "late connector"
        assert len(await host.list_connectors()) == 1
