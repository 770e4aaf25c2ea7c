"""One call that asks for a job's state, and those that wait for its answer instead of asking, too."""

import asyncio

from flyteidl.admin import agent_pb2

from connector_core.errors import ConnectorError


class Asking:
    """What a call ends with, kept for whoever else waits for the same answer: mostly nobody."""

    __slots__ = ("_outcome",)

    def __init__(self) -> None:
        self._outcome: asyncio.Future[agent_pb2.Resource] | None = None

    @property
    def outcome(self) -> "asyncio.Future[agent_pb2.Resource]":
        """What the call is going to end with; cancelled if its caller goes."""
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        return self._outcome

    def answered(self, resource: agent_pb2.Resource) -> None:
        """Give the others the answer."""
        if self._outcome is not None:
            self._outcome.set_result(resource)

    def failed(self, error: ConnectorError) -> None:
        """Give the others the failure."""
        if self._outcome is not None:
            self._outcome.set_exception(error)
            self._outcome.exception()  # they may have gone meanwhile

    def give_up(self) -> None:
        """Let the next in line ask, if there is no outcome."""
        if self._outcome is not None:
            self._outcome.cancel()
