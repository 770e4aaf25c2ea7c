"""Base classes of connectors: objects that each talk to one external system."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, get_args, get_origin

from connector_core.errors import InvalidConnectorError
from connector_core.resource import Resource
from connector_core.resource_meta import ResourceMeta
from connector_core.task import TaskCategory

MetaT = TypeVar("MetaT", bound=ResourceMeta)

_LARGEST_VERSION = 2**31 - 1  # the protocol's int32


class ConnectorBase(ABC):
    """The base of async and sync connectors; subclass `AsyncConnectorBase` or `SyncConnectorBase`.

    Attributes may be set on the class or on the instance.

    Attributes:
        name: what people call the connector; unique on a host.
        task_type_name: the task type it serves.
        task_type_version: the version of that task type.
        task_categories: for several task types: `TaskCategory`s or strings `NAME[@VERSION]`, in place of the two above.
        deadlines: seconds that an operation may take, by its name, where the host's defaults do not fit; what the operator
            sets for the plugin or the connector goes before it.
        risk: what every caller can make it do to others, such as "calls any URL that a caller names"; its creates fail until
            the operator names it in the setting `allow_risks`, and the host says so at its start.

    Optional methods, `async def` or plain, without arguments: `start()` opens clients with the server and `close()` closes
    them. Both run where the connector's other calls run.
    """

    name: str
    task_type_name: str
    task_type_version: int = 0
    task_categories: Sequence[TaskCategory | str] = ()
    deadlines: Mapping[str, float] = {}
    risk: str = ""


class AsyncConnectorBase(ConnectorBase, Generic[MetaT]):
    """A connector of jobs that go on by themselves: create, get and delete (Flyte's async connector).

    "Async" says nothing about `async def`: each method may be one or a plain, blocking function, which then runs in a
    thread. A method names only the arguments that it wants:

    - `create`: `task_template`, `inputs`, `literals`, `output_prefix`, `task_execution_metadata`, `idempotency_key`,
      `connection`; returns the resource meta.
    - `get`: `resource_meta`, `output_prefix`, `connection`; returns a `Resource`.
    - `get_many` (optional): `resource_metas` and `connections`, lists of one length; returns a `Resource` or an exception for
      each, in order. Where it is there, GetTask calls that come within some milliseconds of each other become one call of it.
    - `delete`: `resource_meta`, `connection`; has to be idempotent, since it may come twice or for a job that is gone.
    - `get_metrics` (optional): `resource_meta`, `queries`, `start_time`, `end_time`, `step`; returns
      `flyteidl.core.metrics_pb2.ExecutionMetricResult`s.
    - `get_logs` (optional): `resource_meta`, `lines`, `token`; yields lines or `LogPage`s, or returns one page.

    Attributes:
        metadata_type: the `ResourceMeta` subclass; read from the type parameter unless set.
        min_poll_interval: seconds within which a job's last answer is given again without asking the connector.
        risk_in_get: whether a resource meta is enough for the `risk`; unsigned ones are then not polled either.
        metadata_risk: what the connector does with a resource meta that lets a forged one run code, such as "unpickles its
            resource metas"; the host warns of it where resource metas are not signed.
    """

    metadata_type: type[ResourceMeta] | None = None
    min_poll_interval: float = 0
    metadata_risk: str = ""
    risk_in_get: bool = False

    @abstractmethod
    def create(self, *args: Any, **kwargs: Any) -> Awaitable[MetaT] | MetaT:
        """Start a job and return its handle."""

    @abstractmethod
    def get(self, *args: Any, **kwargs: Any) -> Awaitable[Resource] | Resource:
        """Return the job's state."""

    @abstractmethod
    def delete(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Cancel the job; a job that is gone is not an error."""


class SyncConnectorBase(ConnectorBase):
    """A connector that answers at once: one `do` (Flyte's sync connector).

    `do` may name `task_template`, `inputs`, `literals`, `output_prefix`, `task_execution_metadata`, `idempotency_key` and
    `connection`; it returns a `Resource`, as `async def` or as a plain, blocking function.
    """

    @abstractmethod
    def do(self, *args: Any, **kwargs: Any) -> Awaitable[Resource] | Resource:
        """Do the work and return its result."""


def categories_of(connector: ConnectorBase) -> tuple[TaskCategory, ...]:
    """Return the task categories that a connector serves.

    Raises:
        InvalidConnectorError: it names none, or in an invalid form.
    """
    given: Iterable[TaskCategory | str] = connector.task_categories
    where = f"{_class(connector)}.task_categories"
    if not given:
        name = getattr(connector, "task_type_name", None)
        if not isinstance(name, str) or not name:
            raise InvalidConnectorError(
                f"{_class(connector)} names no task type: set `task_type_name`, or `task_categories` for several"
            )
        where = f"{_class(connector)}.task_type_name"
        given = [TaskCategory(name, connector.task_type_version)]
    if isinstance(given, str):
        raise InvalidConnectorError(f"{where} is a string; write a list: [{given!r}]")
    try:
        return tuple(_checked(one if isinstance(one, TaskCategory) else TaskCategory.parse(one)) for one in given)
    except (ValueError, TypeError) as error:
        raise InvalidConnectorError(f"{where}: {error}") from error


def _checked(category: TaskCategory) -> TaskCategory:
    """Refuse what the protocol cannot carry, and names that `NAME[@VERSION]` in a setting could not mean."""
    version: object = category.version
    if not isinstance(version, int) or not 0 <= version <= _LARGEST_VERSION:
        raise ValueError(
            f"the version {version!r} of {category.name!r} is not a whole number from 0 to {_LARGEST_VERSION}"
        )
    if TaskCategory.parse(str(category)) != category:
        raise ValueError(
            f"{category.name!r} is not the name of a task type: it reads as {TaskCategory.parse(str(category))!r}"
        )
    return category


def metadata_type_of(connector: "AsyncConnectorBase[Any]") -> type[ResourceMeta]:
    """Return the type of a connector's resource metas.

    Raises:
        InvalidConnectorError: neither `metadata_type` nor the type parameter names it, or it is not a dataclass.
    """
    found = connector.metadata_type or _type_argument(type(connector))
    if isinstance(found, type) and issubclass(found, ResourceMeta):
        _refuse_undecorated(found)
        return found
    raise InvalidConnectorError(
        f"{_class(connector)} does not say which ResourceMeta it uses: "
        f"write `class {type(connector).__name__}(AsyncConnectorBase[MyMeta])`, or set `metadata_type`"
    )


def _refuse_undecorated(meta_type: type[ResourceMeta]) -> None:
    """A class with fields, but without the decorator, would be written as if it had none."""
    own = vars(meta_type)
    is_decorated = "__dataclass_fields__" in own
    adds_nothing = "__init__" not in own and not inspect.get_annotations(meta_type)
    if is_decorated or adds_nothing or meta_type.encode is not ResourceMeta.encode:
        return
    name = f"{meta_type.__module__}.{meta_type.__qualname__}"
    raise InvalidConnectorError(f"{name} is not a dataclass: write @dataclass above it, or override encode and decode")


def _type_argument(connector_type: type) -> object:
    """Find what `MetaT` was filled with, through generic classes in between."""
    bound: dict[object, object] = {}
    for cls in reversed(_generic_line(connector_type)):
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if origin is None or not issubclass(origin, AsyncConnectorBase):
                continue
            bound.update(zip(origin.__parameters__, get_args(base), strict=False))
    found: object = MetaT
    while found in bound and bound[found] is not found:
        found = bound[found]
    return found


def _generic_line(connector_type: type) -> list[type]:
    return [
        cls for cls in connector_type.__mro__ if "__orig_bases__" in cls.__dict__ and issubclass(cls, ConnectorBase)
    ]


def _class(connector: object) -> str:
    return f"{type(connector).__module__}.{type(connector).__qualname__}"
