"""The host's own log: one stream of lines, of the host and of everything in it, for people or for programs."""

from connector_core.hostlog.stream import HostLog

__all__ = ["HostLog"]
