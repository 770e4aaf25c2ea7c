"""The connector that answers from a plain function, as a plugin of its own."""

from ours import NoopConnector, PlainConnector

from connector_core import hookimpl


@hookimpl
def register_connectors() -> list[NoopConnector]:
    """Bring the one."""
    return [PlainConnector()]
