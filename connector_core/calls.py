"""What is known of an RPC once it has ended, and who is told."""

from collections.abc import Callable
from typing import NamedTuple

from connector_core.registry import PluginIdentity


class CallRecord(NamedTuple):
    """One RPC that has ended; it holds nothing of what went in or came out.

    Attributes:
        at: when it ended, in seconds since the epoch.
        seconds: from its arrival to its answer.
        operation: such as "create"; the label that metrics have.
        task_type: as registered, `UNKNOWN_TASK_TYPE` for any other, `NO_TASK_TYPE` for the metadata service.
        plugin: of the connector that it was about, if one was found.
        connector: that connector's name.
        execution: the attempt of a task that it was about, as far as the request says: `project/domain/execution/node/attempt`
            of `create` and `do`, the output prefix of `get`.
        code: the name of the gRPC status code that it ended with, or that its answer stands for.
        reference: what finds the failure's line in the log; empty where nothing failed.
        is_failed_job: whether the wire says OK, with a job that GetTask calls FAILED.
    """

    at: float
    seconds: float
    operation: str
    task_type: str
    plugin: PluginIdentity | None
    connector: str
    execution: str
    code: str
    reference: str
    is_failed_job: bool


CallListener = Callable[[CallRecord], None]
"""Is told of each RPC as it ends, on the serving loop: it must be quick, and not raise."""
