"""What a plugin's tests use: a real server on a free port, and the suite that every connector passes."""

from connector_core.testing.contract import ConnectorContract
from connector_core.testing.harness import RunningServer, running_server

__all__ = ["ConnectorContract", "RunningServer", "running_server"]
