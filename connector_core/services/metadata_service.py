"""The metadata services of both generations: which connectors there are, answered from memory.

The engine rebuilds its routing table from nothing at each poll, and one slow or failed answer un-routes every task type of
the host. So the answers are made once, and given from memory.
"""

from connector_core.metrics import (
    get_agent_operation,
    get_connector_operation,
    list_agents_operation,
    list_connectors_operation,
)
from connector_core.observing.recorder import Recorder
from connector_core.protocol.dialects import Dialect
from connector_core.protocol.v1 import V1
from connector_core.registry import ConnectorRegistry
from connector_core.services.recording import Request, metadata_request


class _Listing:
    """The connectors that are in a registry when this is made, written in one generation's messages."""

    def __init__(self, registry: ConnectorRegistry, recorder: Recorder, dialect: Dialect | None = None) -> None:
        self.recorder = recorder
        self._registry = registry
        self._dialect: Dialect = dialect or V1()
        agents = registry.list_connectors()
        self._all = self._dialect.write_agents(agents)
        self._by_name = {agent.name: self._dialect.write_agent(agent) for agent in agents}

    def named(self, raw: bytes) -> bytes:
        """Return the connector of a name; one that was registered later is looked up."""
        name = self._dialect.read_agent_name(raw)
        if (answer := self._by_name.get(name)) is not None:
            return answer
        return self._dialect.write_agent(self._registry.get_connector_metadata(name))

    def listed(self, raw: bytes) -> bytes:
        """Return all connectors."""
        self._dialect.read_listing(raw)
        return self._all


class ConnectorMetadataService(_Listing):
    """`flyteidl.service.AgentMetadataService`."""

    @metadata_request(get_agent_operation)
    async def GetAgent(self, raw: bytes, _request: Request) -> bytes:
        """Return the connector of a name."""
        return self.named(raw)

    @metadata_request(list_agents_operation)
    async def ListAgents(self, raw: bytes, _request: Request) -> bytes:
        """Return all connectors."""
        return self.listed(raw)


class SecondMetadataService(_Listing):
    """`flyteidl2.connector.ConnectorMetadataService`."""

    @metadata_request(get_connector_operation)
    async def GetConnector(self, raw: bytes, _request: Request) -> bytes:
        """Return the connector of a name."""
        return self.named(raw)

    @metadata_request(list_connectors_operation)
    async def ListConnectors(self, raw: bytes, _request: Request) -> bytes:
        """Return all connectors."""
        return self.listed(raw)
