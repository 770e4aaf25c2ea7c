"""What the protocol's messages offer to a connector's methods; costly parts are worked out only if they are wanted."""

import uuid
from functools import partial
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap

from connector_core.connection import Connection
from connector_core.literals import to_python_map
from connector_core.operations import Deferred
from connector_core.services.decoding import moment, span
from connector_core.task import Attempt


def create_arguments(
    request: agent_pb2.CreateTaskRequest | agent_pb2.CreateRequestHeader,
    inputs: LiteralMap,
    connection: Connection,
    idempotency_key: str | Deferred[str],
) -> dict[str, Any]:
    """Return what `create` and `do` are offered."""
    return {
        "task_template": request.template,
        "inputs": Deferred(partial(to_python_map, inputs)),
        "literals": inputs,
        "output_prefix": request.output_prefix,
        "task_execution_metadata": request.task_execution_metadata,
        "idempotency_key": idempotency_key,
        "connection": connection,
    }


def key_of(attempt: Attempt | None) -> str:
    """Return an attempt's idempotency key; a key of its own for a request that does not say which task it is for."""
    return attempt.key if attempt is not None else uuid.uuid4().hex


def get_arguments(request: agent_pb2.GetTaskRequest, connection: Connection) -> dict[str, Any]:
    """Return what `get` is offered besides the job."""
    return {"output_prefix": request.output_prefix, "connection": connection}


def metrics_arguments(request: agent_pb2.GetTaskMetricsRequest) -> dict[str, Any]:
    """Return what `get_metrics` is offered besides the job; times that the request leaves out are `None`."""
    return {
        "queries": list(request.queries),
        "start_time": moment(request.start_time) if request.HasField("start_time") else None,
        "end_time": moment(request.end_time) if request.HasField("end_time") else None,
        "step": span(request.step) if request.HasField("step") else None,
    }


def logs_arguments(request: agent_pb2.GetTaskLogsRequest) -> dict[str, Any]:
    """Return what `get_logs` is offered besides the job."""
    return {"lines": request.lines, "token": request.token}
