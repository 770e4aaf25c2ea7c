"""Connectors of others through their own server and through this host, on real backends of loopback, compared."""
