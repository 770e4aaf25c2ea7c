"""Tools for plugins' tests: a real server on a free port, a fake engine and backend, and the suite of all connectors."""

from connector_core.testing.backend import BackendConnector, FakeBackend
from connector_core.testing.contract import ConnectorContract
from connector_core.testing.harness import RunningServer, running_server
from connector_core.testing.propeller import FakePropeller

__all__ = ["BackendConnector", "ConnectorContract", "FakeBackend", "FakePropeller", "RunningServer", "running_server"]
