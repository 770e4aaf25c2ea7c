"""The HTTP face: metrics, health, the protocol as JSON, and a console for people.

What is imported from here is light. Starlette and uvicorn are imported in the thread that serves HTTP, when somebody connects.
"""

from connector_core.http.face import ConsoleSource, HttpFace
from connector_core.http.listening import HttpServer
from connector_core.http.servicer_calls import ServedCalls

__all__ = ["ConsoleSource", "HttpFace", "HttpServer", "ServedCalls"]
