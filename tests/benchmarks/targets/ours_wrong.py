"""The connector that blocks its loop, as a third plugin."""

from ours import NoopConnector, WronglyAsyncConnector

from connector_core import hookimpl


@hookimpl
def register_connectors() -> list[NoopConnector]:
    """Bring the one that blocks in an `async def`."""
    return [WronglyAsyncConnector()]
