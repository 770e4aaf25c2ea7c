"""`flyteidl.service.AgentMetadataService`: which connectors there are.

The engine rebuilds its routing table from nothing at each poll, and one slow or failed answer un-routes every task type of
the host. So the answers are made once, and given from memory.
"""

from flyteidl.admin import agent_pb2

from connector_core.metrics import get_agent_operation, list_agents_operation
from connector_core.observing.recorder import Recorder
from connector_core.registry import ConnectorRegistry
from connector_core.services.decoding import decode
from connector_core.services.recording import Request, metadata_request


class ConnectorMetadataService:
    """Answers for the connectors that are in the registry when it is made."""

    def __init__(self, registry: ConnectorRegistry, recorder: Recorder) -> None:
        self.recorder = recorder
        self._registry = registry
        agents = registry.list_connectors()
        self._list = agent_pb2.ListAgentsResponse(agents=agents).SerializeToString()
        self._by_name = {agent.name: agent_pb2.GetAgentResponse(agent=agent).SerializeToString() for agent in agents}

    @metadata_request(get_agent_operation)
    async def GetAgent(self, raw: bytes, _request: Request) -> bytes:
        """Return the connector of a name."""
        name = decode(agent_pb2.GetAgentRequest, raw).name
        if (answer := self._by_name.get(name)) is not None:
            return answer
        return agent_pb2.GetAgentResponse(agent=self._registry.get_connector_metadata(name)).SerializeToString()

    @metadata_request(list_agents_operation)
    async def ListAgents(self, raw: bytes, _request: Request) -> bytes:
        """Return all connectors."""
        decode(agent_pb2.ListAgentsRequest, raw)
        return self._list
