"""The HTTP face: metrics, health, the protocol as JSON, and a console for people.

What is imported from here is light. Starlette and uvicorn are imported in the thread that serves HTTP, when somebody connects.
"""

from connector_core.http.calls import ServedCalls
from connector_core.http.console.observer import Observer
from connector_core.http.face import ConsoleSource, GatewayOptions, HostState, HttpFace
from connector_core.http.listening import HttpServer
from connector_core.http.readiness import reasons_not_ready
from connector_core.http.recent import RecentCalls

__all__ = [
    "ConsoleSource",
    "GatewayOptions",
    "HostState",
    "HttpFace",
    "HttpServer",
    "Observer",
    "RecentCalls",
    "ServedCalls",
    "reasons_not_ready",
]
