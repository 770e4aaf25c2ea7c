"""One connector of flyte's SDK, behind the face of one of the host's."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from flyte.connectors import AsyncConnector
from flyte.errors import BaseRuntimeError
from flyteidl.admin.agent_pb2 import LogLine, TaskExecutionMetadata
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl2.connector.connector_pb2 import GetTaskLogsResponse
from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata as FlyteTaskExecutionMetadata
from flyteidl2.core.tasks_pb2 import TaskTemplate as FlyteTaskTemplate

from connector_core.connection import Connection
from connector_core.connector import AsyncConnectorBase
from connector_core.errors import IllegalAnswerError, InvalidConnectorError, PermanentError, permanent_http_error
from connector_core.resource import LogPage
from connector_plugin_flyte.messages import as_inputs, as_message
from connector_plugin_flyte.metas import FlyteMeta, meta_type_of
from connector_plugin_flyte.values import native_inputs, wire_resource

_NONE = Connection()


class BridgedConnector(AsyncConnectorBase[FlyteMeta]):
    """A connector of flyte's SDK, called as flyte's own server calls it.

    Args:
        theirs: the connector, as its module registered it.
        name: what the host calls it.

    Raises:
        InvalidConnectorError: it names no class for its resource metas.
    """

    def __init__(self, theirs: "AsyncConnector[Any]", name: str) -> None:
        self.theirs = theirs
        self.name = name
        self.task_type_name = theirs.task_type_name
        self.task_type_version = theirs.task_type_version
        self._meta = meta_type_of(_meta_type(theirs))
        self.metadata_type = self._meta
        if _has_own(theirs, "get_logs"):
            self.get_logs = self._get_logs
        if _has_own(theirs, "get_metrics"):
            self.get_metrics = self._get_metrics

    async def create(
        self,
        task_template: TaskTemplate,
        literals: LiteralMap,
        output_prefix: str,
        task_execution_metadata: TaskExecutionMetadata,
        connection: Connection = _NONE,
    ) -> FlyteMeta:
        """Start a job: the connector gets the second generation's messages, and inputs of flyte's type engine."""
        template = as_message(FlyteTaskTemplate, task_template)
        inputs = await native_inputs(template, as_inputs(literals))
        try:
            meta = await _call(
                self.theirs.create,
                _values_of(connection),
                task_template=template,
                inputs=inputs,
                output_prefix=output_prefix,
                task_execution_metadata=as_message(FlyteTaskExecutionMetadata, task_execution_metadata),
            )
        except Exception as error:
            if (ours := _permanent(error)) is None:
                raise
            raise ours from error
        if not (hasattr(meta, "encode") and hasattr(meta, "decode")):  # a text has the first
            raise IllegalAnswerError(f"create() returned {_described(meta)}, not a resource meta")
        return self._meta(meta)

    async def get(self, resource_meta: FlyteMeta, connection: Connection = _NONE) -> Any:
        """Return the job's state."""
        answer = await _call(self.theirs.get, _values_of(connection), resource_meta=resource_meta.theirs)
        return await wire_resource(answer)

    async def delete(self, resource_meta: FlyteMeta, connection: Connection = _NONE) -> None:
        """Cancel the job."""
        await _call(self.theirs.delete, _values_of(connection), resource_meta=resource_meta.theirs)

    async def _get_metrics(self, resource_meta: FlyteMeta) -> list[ExecutionMetricResult]:
        answer = await _call(self.theirs.get_metrics, {}, resource_meta=resource_meta.theirs)
        return [as_message(ExecutionMetricResult, result) for result in answer.results]

    async def _get_logs(self, resource_meta: FlyteMeta, token: str) -> AsyncIterator[LogPage]:
        """Yield a page for each of the connector's messages, which it yields, or returns one of."""
        answer = self.theirs.get_logs(resource_meta=resource_meta.theirs, token=token)
        if inspect.isasyncgen(answer):
            async for message in answer:
                yield _page(message)
        else:
            yield _page(await answer if inspect.isawaitable(answer) else answer)


async def _call(method: Callable[..., Any], connection: Mapping[str, str], **arguments: Any) -> Any:
    """Call a connector's method; of a connection's values it gets those that it names, or all where it takes any."""
    parameters = inspect.signature(method).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        connection = {name: value for name, value in connection.items() if name in parameters}
    arguments = {**connection, **arguments}
    if inspect.iscoroutinefunction(method):
        return await method(**arguments)
    answer = await asyncio.to_thread(method, **arguments)  # flyte's server would refuse a plain function
    return await answer if inspect.isawaitable(answer) else answer


def _values_of(connection: Connection) -> dict[str, str]:
    """Return a connection's secrets and settings, as flyte's server merges them."""
    secrets = {name: secret.get_secret_value() for name, secret in connection.secrets.items()}
    return {**secrets, **connection.configs}


def _permanent(error: Exception) -> PermanentError | None:
    """Return the host's error for a user's error of the SDK, or an HTTP client's; a job that runs is failed by neither."""
    if isinstance(error, BaseRuntimeError) and error.kind == "user":
        return PermanentError(f"{type(error).__name__}: {error}", error_code=error.code)
    return permanent_http_error(error)


def _described(answer: object) -> str:
    return "nothing" if answer is None else f"a {type(answer).__name__}"


def _page(message: object) -> LogPage:
    if not isinstance(message, GetTaskLogsResponse):
        raise IllegalAnswerError(f"get_logs() gave {_described(message)}, not a GetTaskLogsResponse")
    lines = [as_message(LogLine, line) for line in message.body.lines]
    return LogPage([*message.body.results, *lines], message.header.token)


def _meta_type(theirs: "AsyncConnector[Any]") -> type[Any]:
    meta_type = getattr(theirs, "metadata_type", None)
    if isinstance(meta_type, type) and callable(getattr(meta_type, "decode", None)):
        return meta_type
    where = f"{type(theirs).__module__}.{type(theirs).__qualname__}"
    raise InvalidConnectorError(f"{where} does not say which class its resource metas have: set `metadata_type`")


def _has_own(theirs: "AsyncConnector[Any]", method: str) -> bool:
    return getattr(type(theirs), method, None) is not getattr(AsyncConnector, method, None)
