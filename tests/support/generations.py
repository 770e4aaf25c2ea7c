"""The server of tests that hold for both generations of the protocol, each of which runs once for either.

A module says so with `pytestmark = pytest.mark.usefixtures("spoken")` and takes `running_server` from here.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

from connector_core.connector import ConnectorBase
from connector_core.testing import RunningServer
from connector_core.testing import running_server as in_a_generation

_spoken: list[Any] = ["v1"]


def speak(generation: str) -> None:
    """Have the servers of the test that runs now called in this generation of the protocol."""
    _spoken[0] = generation


def running_server(*connectors: ConnectorBase, **options: Any) -> AbstractAsyncContextManager[RunningServer]:
    """Serve connectors, and call them in the generation of the test that runs now."""
    return in_a_generation(*connectors, generation=_spoken[0], **options)
