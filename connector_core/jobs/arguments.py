"""How a job is offered to a connector's methods."""

from functools import partial
from typing import Any

from connector_core.operations import Deferred
from connector_core.registry import RegisteredConnector


def job_arguments(connector: RegisteredConnector, resource_meta: bytes) -> dict[str, Any]:
    """Return what every method about a job is offered; decoding may be the plugin's code, so it runs where that runs."""
    if connector.metadata_type is None:
        return {"resource_meta": resource_meta}
    return {"resource_meta": Deferred(partial(connector.metadata_type.decode, resource_meta))}
