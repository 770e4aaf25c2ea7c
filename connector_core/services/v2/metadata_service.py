"""`flyteidl2.connector.ConnectorMetadataService`: which connectors there are, answered from memory."""

from flyteidl.admin import agent_pb2
from flyteidl2.connector import connector_pb2

from connector_core.metrics import get_connector_operation, list_connectors_operation
from connector_core.observing.recorder import Recorder
from connector_core.registry import ConnectorRegistry
from connector_core.services.decoding import decode
from connector_core.services.recording import Request, metadata_request


class ConnectorMetadataService:
    """Answers for the connectors that are in the registry when it is made; as the first generation's service."""

    def __init__(self, registry: ConnectorRegistry, recorder: Recorder) -> None:
        self.recorder = recorder
        self._registry = registry
        connectors = [_described(agent) for agent in registry.list_connectors()]
        self._list = connector_pb2.ListConnectorsResponse(connectors=connectors).SerializeToString()
        self._by_name = {connector.name: _answer(connector) for connector in connectors}

    @metadata_request(get_connector_operation)
    async def GetConnector(self, raw: bytes, _request: Request) -> bytes:
        """Return the connector of a name."""
        name = decode(connector_pb2.GetConnectorRequest, raw).name
        if (answer := self._by_name.get(name)) is not None:
            return answer
        return _answer(_described(self._registry.get_connector_metadata(name)))

    @metadata_request(list_connectors_operation)
    async def ListConnectors(self, raw: bytes, _request: Request) -> bytes:
        """Return all connectors."""
        decode(connector_pb2.ListConnectorsRequest, raw)
        return self._list


def _described(agent: agent_pb2.Agent) -> connector_pb2.Connector:
    """Describe a connector; that it is a sync one makes no difference here, and has no place."""
    categories = (
        connector_pb2.TaskCategory(name=one.name, version=one.version) for one in agent.supported_task_categories
    )
    return connector_pb2.Connector(name=agent.name, supported_task_categories=categories)


def _answer(connector: connector_pb2.Connector) -> bytes:
    return connector_pb2.GetConnectorResponse(connector=connector).SerializeToString()
