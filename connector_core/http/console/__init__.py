"""The console: one page that shows people what the host is doing, kept up to date by server-sent events."""

from connector_core.http.console.console import Console, make_console

__all__ = ["Console", "make_console"]
