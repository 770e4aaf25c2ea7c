"""A model of the engine that calls connector servers, for tests of hosts and of connectors."""

from connector_core.testing.propeller.engine import FakePropeller
from connector_core.testing.propeller.faults import Faults
from connector_core.testing.propeller.routing import Deployment, Route, RoutingTable
from connector_core.testing.propeller.tasks import Attempt, Call, EngineTask, Event, Workflow

__all__ = [
    "Attempt",
    "Call",
    "Deployment",
    "EngineTask",
    "Event",
    "FakePropeller",
    "Faults",
    "Route",
    "RoutingTable",
    "Workflow",
]
