"""The floor: a `grpc.aio` server on uvloop that parses and builds the real messages and does nothing else."""

import asyncio
import sys

import grpc.aio
import uvloop
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2_grpc


class Jobs(agent_pb2_grpc.AsyncAgentServiceServicer):
    async def GetTask(self, request, context):
        return agent_pb2.GetTaskResponse(resource=agent_pb2.Resource(phase=2))


class Metadata(agent_pb2_grpc.AgentMetadataServiceServicer):
    async def ListAgents(self, request, context):
        agents = [agent_pb2.Agent(name=name, supported_task_types=[name]) for name in ("noop_1", "noop_2")]
        return agent_pb2.ListAgentsResponse(agents=agents)


async def main():
    server = grpc.aio.server()
    agent_pb2_grpc.add_AsyncAgentServiceServicer_to_server(Jobs(), server)
    agent_pb2_grpc.add_AgentMetadataServiceServicer_to_server(Metadata(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await asyncio.Event().wait()


uvloop.run(main())
