"""The connectors that block, as another plugin."""

from ours import BlockingConnector, NoopConnector

from connector_core import hookimpl


@hookimpl
def register_connectors() -> list[NoopConnector]:
    """Bring the one that blocks in threads."""
    return [BlockingConnector()]
