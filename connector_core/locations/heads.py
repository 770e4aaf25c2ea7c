"""The heads of frames: what goes as JSON beside the bytes of messages."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.invocation import CallLimits
from connector_core.locations.wire import WireError
from connector_core.plugins import FailedPlugin, SkippedPlugin
from connector_core.settings import BatchSettings


class StartHead(msgspec.Struct, frozen=True):
    """All that a location's process is told before it loads its plugins.

    Attributes:
        version: of the wire.
        parent: the host's process.
        location: its name.
        path: the host's `sys.path`.
        modules: those of its plugins that are modules.
        plugins: the names of its plugins.
        sections: their sections of the settings, and those of what they bring.
        names: those of all plugins that the host has found.
        allow: the setting `allow_plugin`.
        block: the setting `block_plugin`.
        places: what tasks may use whatever the sections say.
        load_timeout: the setting of that name.
        loop: the setting of that name.
        stall_seconds: the setting of that name.
        batch: the setting of that name.
        secrets: the prefix of variables and the folder of files.
        levels: the setting `log_level`.
        max_bytes: bytes that a frame may have.
    """

    version: int
    parent: int
    location: str
    path: tuple[str, ...]
    modules: tuple[str, ...]
    plugins: tuple[str, ...]
    sections: Mapping[str, Any]
    names: tuple[str, ...]
    allow: tuple[str, ...]
    block: tuple[str, ...]
    places: tuple[str, ...]
    load_timeout: float
    loop: str
    stall_seconds: float
    batch: BatchSettings
    secrets: tuple[str, str]
    levels: Mapping[str, str]
    max_bytes: int


class LoadedHead(msgspec.Struct, frozen=True):
    """A plugin that a location has loaded."""

    identity: PluginIdentity
    connectors: tuple[ConnectorDescription, ...]
    seconds: float
    summary: str
    is_bridge: bool


class HelloHead(msgspec.Struct, frozen=True):
    """The outcome of loading a location's plugins, sent before anything of theirs is started."""

    version: int
    loaded: tuple[LoadedHead, ...] = ()
    failed: tuple[FailedPlugin, ...] = ()
    skipped: tuple[SkippedPlugin, ...] = ()
    secrets: tuple[str, ...] = ()


class PlaceHead(msgspec.Struct, frozen=True):
    """A place that calls will name by its number: a connector, as the host lists it, and its limits."""

    description: ConnectorDescription
    limits: CallLimits


class ConnectionHead(msgspec.Struct, frozen=True):
    """A caller's connection to the backend, with its secrets in the clear."""

    secrets: Mapping[str, str]
    configs: Mapping[str, str]
    task_type: str


class DetailsHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of `get_metrics` and `get_logs` besides the job; `names` are those that the call offers."""

    names: tuple[str, ...]
    queries: list[str] = msgspec.field(default_factory=list)
    start_time: datetime | None = None
    end_time: datetime | None = None
    step: timedelta | None = None
    lines: int = 0
    token: str = ""


class CallHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call.

    Attributes:
        place: the number of its place.
        operation: the operation.
        seconds: what is left of its time; `None` where there is no end.
        streams: whether its answer is asked for piece by piece.
        offer: what is offered: nothing, a task whose request has its inputs, one that has them apart, or a job.
        sizes: of the messages in the body.
        key: a task's idempotency key.
        output_prefix: a job's.
        connection: what the caller brings.
        details: a job's.
        request: the RPC that it is part of: its subject's fields, and the execution.
    """

    place: int
    operation: str
    seconds: float | None = None
    streams: bool = False
    offer: Literal["none", "task", "header", "job"] = "none"
    sizes: tuple[int, ...] = ()
    key: str = ""
    output_prefix: str = ""
    connection: ConnectionHead | None = None
    details: DetailsHead | None = None
    request: tuple[str, ...] = ()


class AnswerHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer, or a piece of one.

    Attributes:
        form: how the body is to be read.
        sizes: of the messages in it; of log pages, those of the lines, one after the other.
        pages: of each log page the number of its lines, before which its token stands, and which of them are structured.
    """

    form: Literal["none", "bytes", "resource", "metrics", "pages"] = "none"
    sizes: tuple[int, ...] = ()
    pages: tuple[tuple[int, tuple[int, ...]], ...] = ()


class ErrorHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of a call.

    Attributes:
        kind: its class, of `connector_core.errors`.
        message: for people.
        error_code: for programs.
        plugin: whose code it was.
        operation: which one.
        retry_after: seconds, of those that say so.
        detail: the field or the URI that two classes name.
        fault: an author's class may say otherwise than its base; as `retryable` and `in_poll` do.
        retryable: see `fault`.
        in_poll: see `fault`.
        traceback: of what the code raised, for the log.
    """

    kind: str
    message: str
    error_code: str | None = None
    plugin: str | None = None
    operation: str | None = None
    retry_after: float | None = None
    detail: str | None = None
    fault: str = ""
    retryable: bool = True
    in_poll: str = ""
    traceback: str = ""


def to_json(head: msgspec.Struct) -> bytes:
    """Write a head."""
    return msgspec.json.encode(head)


def from_json(data: bytes, kind: type[msgspec.Struct]) -> Any:
    """Read a head.

    Raises:
        WireError: it is not one of this kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"a head that is not a {kind.__name__}: {error}") from None
