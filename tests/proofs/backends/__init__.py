"""Servers that connectors of others talk to, all of them on loopback."""
