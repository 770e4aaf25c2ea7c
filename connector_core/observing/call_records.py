"""Records of RPCs: what one is about while it runs, and what became of it."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from connector_core.description import PluginIdentity


class CallRecord(NamedTuple):
    """One RPC that has ended; it holds nothing of what went in or came out but the message of a failure.

    Attributes:
        at: when it ended, in seconds since the epoch.
        seconds: from its arrival to its answer.
        operation: such as "create"; the label that metrics have.
        task_type: as registered, `UNKNOWN_TASK_TYPE` for any other, `NO_TASK_TYPE` for the metadata service.
        plugin: of the connector that it was about, if one was found.
        connector: that connector's name.
        execution: the attempt of a task that it was about, by one name in all calls about a job: that of its create,
            `project/domain/execution/node/attempt`; the output prefix, where this host has not seen the create.
        code: the name of the gRPC status code that it ended with, or that its answer stands for.
        reference: what finds the failure's line in the log; empty where nothing failed.
        is_failed_job: whether the wire says OK, with a job that GetTask calls FAILED.
        is_callers_doing: whether it failed by its caller's doing: a bad request, or a call that was given up.
        message: the failure's, as its caller gets it; it may quote what a plugin wrote.
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
    is_callers_doing: bool = False
    message: str = ""

    def fields(self) -> dict[str, str]:
        """Return the fields that the log and traces have of it, by name."""
        about = {
            "plugin": self.plugin.name if self.plugin else "",
            "connector": self.connector,
            "operation": self.operation,
            "task_type": self.task_type,
            "execution": self.execution,
            "status": self.code,
            "reference": self.reference,
        }
        return {name: text for name, text in about.items() if text}


CallListener = Callable[[CallRecord], None]
"""A function that is called with each RPC as it ends, on the serving loop: it must be quick, and not raise."""


class Subject(NamedTuple):
    """The subject of code that runs; texts alone, as a task that outlives its call keeps it alive.

    Attributes:
        plugin: the plugin's name.
        connector: the connector's.
        operation: of the RPC, or the one of the connector's that runs: `get_many` answers many a `get`.
        task_type: as registered.
        execution: as in a `CallRecord`.
    """

    plugin: str
    connector: str = ""
    operation: str = ""
    task_type: str = ""
    execution: str = ""

    def within(self, request: "AboutRequest | None") -> "Subject":
        """Return it with the task of the RPC that it is part of."""
        if request is None:
            return self
        rpc, execution = request
        return self._replace(task_type=rpc.task_type, execution=execution)


AboutRequest = tuple[Subject, str]
"""The subject of an RPC without its execution, which makes it the same for many, and the execution."""

REQUEST: ContextVar[AboutRequest | None] = ContextVar("connector_core.request", default=None)
"""The RPC that is being answered, once its connector is found."""

CODE: ContextVar[Subject | None] = ContextVar("connector_core.code", default=None)
"""The plugin code that runs; without task type and execution, so that it need not be made anew for each call."""


def current_subject() -> Subject | None:
    """Return what the code that runs here is about, in plugin code and around it; `None` outside of an RPC."""
    code, request = CODE.get(), REQUEST.get()
    if code is None and request is not None:
        code = request[0]
    return None if code is None else code.within(request)
