"""A model of the engine that calls connector servers, for tests of hosts and of connectors."""

from connector_core.testing.propeller.engine import FakePropeller
from connector_core.testing.propeller.engine_tasks import Attempt, Call, EngineTask, Event, Workflow
from connector_core.testing.propeller.planned_faults import Faults
from connector_core.testing.propeller.routing import Deployment, Route, RoutingTable

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
