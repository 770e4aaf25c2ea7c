"""A connector of flytekit's kind as one of the host's, its code untouched."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flytekit.extend.backend.base_connector import AsyncConnectorBase as FlytekitAsync
from flytekit.extend.backend.base_connector import ConnectorBase as FlytekitConnector
from flytekit.extend.backend.base_connector import SyncConnectorBase as FlytekitSync

from connector_core import AsyncConnectorBase, SyncConnectorBase
from connector_core.connector import ConnectorBase
from connector_core.errors import InvalidConnectorError
from connector_plugin_flytekit.answers import (
    our_answer,
    our_answer_of_a_thread,
    our_page,
    their_arguments,
)
from connector_plugin_flytekit.context import enter_own_context
from connector_plugin_flytekit.faults import translated
from connector_plugin_flytekit.metas import BridgedMeta, meta_type, unpickles

_PASSED = {
    "create": ("task_template", "inputs", "output_prefix", "task_execution_metadata"),
    "do": ("task_template", "inputs", "output_prefix"),
    "get": ("resource_meta",),
    "delete": ("resource_meta",),
    "get_metrics": ("resource_meta",),
    "get_logs": ("resource_meta",),
}
"""The arguments that flytekit's server passes, and `**kwargs` therefore gets."""

_PASSED_IF_NAMED = {
    "do": ("task_execution_metadata",),
    "get": ("output_prefix",),
    "get_metrics": ("queries", "start_time", "end_time", "step"),
    "get_logs": ("lines", "token"),
}


_RISKS = {
    "flytekit.extras.webhook": (
        "calls any URL that a caller names, also within the network, and returns the answer",
        False,
    ),
    "flytekit.sensor": ("imports any module that a caller names, and tells whether a file exists", True),
    "flytekitplugins.airflow": ("runs any code that a caller sends with a task", False),
}
"""Risks of connectors by their packages: what callers can make them do, and whether a resource meta is enough for it."""


def bridged(theirs: Any, name: str) -> ConnectorBase:
    """Return a connector of the host's that calls `theirs`.

    Raises:
        InvalidConnectorError: a method asks for an argument that flytekit has never passed.
    """
    is_sync = isinstance(theirs, FlytekitSync)
    category = theirs.task_category
    own: dict[str, Any] = {
        "__module__": type(theirs).__module__,
        "__doc__": type(theirs).__doc__,
        "name": name,
        "task_type_name": category.name,
        "task_type_version": category.version,
    }
    for package, (risk, is_in_get) in _RISKS.items():
        if f"{type(theirs).__module__}.".startswith(f"{package}."):
            own |= {"risk": risk, "risk_in_get": is_in_get}
    kind = None
    if not is_sync:
        kind = own["metadata_type"] = meta_type(theirs.metadata_type)
        if (module := unpickles(theirs.metadata_type)) is not None:
            own["metadata_risk"] = f"unpickles its resource metas (with {module})"
    for operation in _operations(theirs, is_sync):
        own[operation] = staticmethod(_Method(theirs, operation, kind).as_ours())
    base: type[ConnectorBase] = SyncConnectorBase if is_sync else AsyncConnectorBase
    made: ConnectorBase = type(type(theirs).__qualname__, (base,), own)()
    return made


def own_name(theirs: Any) -> str:
    """Return what the author calls a connector; its class, where the name is only flytekit's default."""
    given = "name" in vars(theirs) or _is_authors(next(cls for cls in type(theirs).__mro__ if "name" in vars(cls)))
    return str(theirs.name) if given else type(theirs).__name__


def _is_authors(cls: type) -> bool:
    return bool(cls.__module__ != FlytekitConnector.__module__)


def _operations(theirs: Any, is_sync: bool) -> Iterator[str]:
    if is_sync:
        yield "do"
        return
    yield from ("create", "get", "delete")
    for optional in ("get_metrics", "get_logs"):
        if getattr(type(theirs), optional, None) is not getattr(FlytekitAsync, optional, None):
            yield optional


@dataclass(frozen=True, slots=True)
class _Method:
    """One method of one connector of flytekit's."""

    theirs: Any
    operation: str
    kind: type[BridgedMeta] | None

    def as_ours(self) -> Callable[..., Any]:
        """Return a function of the same kind, blocking or not, which names the arguments that the method takes."""
        function = getattr(self.theirs, self.operation)
        wanted = ["literals" if name == "inputs" else name for name in self._taken(function)]
        ours = self._of_its_kind(function)
        ours.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # read by the host's inspection
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in wanted]
        )
        return ours

    def _taken(self, function: Callable[..., Any]) -> list[str]:
        parameters = inspect.signature(function).parameters.values()
        passed, if_named = _PASSED[self.operation], _PASSED_IF_NAMED.get(self.operation, ())
        named = {parameter.name for parameter in parameters}
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        for parameter in parameters:
            is_needed = parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            )
            if is_needed and parameter.name not in (*passed, *if_named):
                cls = type(self.theirs)
                raise InvalidConnectorError(
                    f"{cls.__module__}.{cls.__qualname__}.{self.operation}() asks for {parameter.name!r}, which flytekit does "
                    f"not pass either; it passes {', '.join(passed)}"
                )
        return [name for name in passed if takes_all or name in named] + [name for name in if_named if name in named]

    def _of_its_kind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):
            return self._async_generator(function)
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        if inspect.isgeneratorfunction(function):
            return self._generator(function)
        return self._blocking(function)

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def ours(**given: Any) -> Any:
            with self._call():
                return await our_answer(self.operation, self.kind, await function(**their_arguments(given)))

        return ours

    def _blocking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def ours(**given: Any) -> Any:
            with self._call():
                return our_answer_of_a_thread(self.operation, self.kind, function(**their_arguments(given)))

        return ours

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def ours(**given: Any) -> AsyncIterator[Any]:
            with self._call():
                async for piece in function(**their_arguments(given)):
                    yield our_page(piece)

        return ours

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def ours(**given: Any) -> Iterator[Any]:
            with self._call():
                for piece in function(**their_arguments(given)):
                    yield our_page(piece)

        return ours

    @contextmanager
    def _call(self) -> Iterator[None]:
        enter_own_context()
        try:
            yield
        except Exception as error:
            if (ours := translated(error, self.operation)) is None:
                raise
            raise ours from error
