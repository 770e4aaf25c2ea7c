"""All settings of a host."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from connector_core.errors import SettingsError
from connector_core.settings.sections import (
    MIN_KEY_CHARACTERS,
    BatchSettings,
    DeadlineSettings,
    LimitSettings,
    LocationSettings,
    MemorySettings,
    RideOutSettings,
    SecretSettings,
    SigningSettings,
)
from connector_core.settings.value_kinds import Count, Host, LogLevels, Names, Port, Preferences, Seconds, lines_of
from connector_core.tables import After, Flag, Meta, Table, finite

_TOKEN = re.compile(r"[\w\-.~+/=]+", re.ASCII)


class Settings(Table, frozen=True):
    """All settings of a host, as they are given here; `load_settings` reads the environment and a file as well."""

    host: Annotated[
        Host,
        "The address or name to listen on, for both ports: all that a name such as `localhost` stands for; `0.0.0.0` or "
        "`::`, every address of IPv4 and IPv6, opens the host to the network.",
        Flag(),
    ] = "127.0.0.1"
    port: Annotated[Port, "The gRPC port; 0 takes a free one.", Flag()] = 8000
    http_port: Annotated[
        Port,
        "The HTTP port: console, metrics, health, JSON gateway; 0 takes a free one.",
        Flag(("--http-port", "--prometheus-port")),
    ] = 9090
    console: Annotated[
        bool, "Show plugins, connectors and recent calls to browsers, at `/` of the HTTP port.", Flag()
    ] = True
    recent_calls: Annotated[
        Count, "Calls that the console shows of each operation at the most, failed ones counted apart.", Flag()
    ] = 200
    gateway: Annotated[
        Literal["metadata", "tasks"],
        "What of the protocol is served as JSON on the HTTP port: `metadata`, which connectors there are; "
        "`tasks`, to start, read and cancel jobs as well.",
        Flag(),
    ] = "metadata"
    gateway_token_file: Annotated[
        Path | None,
        "A file with a token in each line (16 characters or more): callers of `gateway = tasks` bring one of them.",
        Flag(),
    ] = None
    gateway_hosts: Annotated[
        Names,
        "Names by which viewers of the console and callers of `gateway = tasks` may call this host, besides "
        "localhost and its addresses.",
        Flag(),
    ] = ()
    workers: Annotated[Count, "Threads for blocking code, for each connector.", Flag(("--workers", "--worker"))] = 10
    queue: Annotated[
        int, Meta(ge=0), "Calls of one connector that may wait for a thread before further ones are refused.", Flag()
    ] = 1000
    wait: Annotated[
        Seconds | None, "Seconds for which a call may wait for a thread; as long as its deadline, where none is set."
    ] = None
    in_flight: Annotated[Count, "Calls of one connector's async code that may be in flight."] = 1000
    in_place: Annotated[
        Names, "Plugins that you vouch for: their async code runs on the serving loop, which is faster."
    ] = ()
    stall_seconds: Annotated[
        Seconds, "Seconds for which a plugin's async code may block its event loop before it is reported."
    ] = 1.0
    timeout: Annotated[Seconds | None, "Seconds after which the server stops by itself.", Flag()] = None
    grace: Annotated[
        float, Meta(ge=0), "Seconds that calls in flight have to finish when the host is asked to stop.", Flag()
    ] = 30
    max_connection_age: Annotated[
        float,
        Meta(ge=0),
        After(finite),
        "Seconds after which a client is asked to connect anew, which is when it looks for replicas that were "
        "added; calls in flight are finished. 0: never.",
    ] = 1800
    keepalive_seconds: Annotated[
        float,
        Meta(ge=0),
        After(finite),
        "Seconds of silence after which a client is asked whether it is still there; the calls of one that does not answer "
        "within as many again, 60 at the most, are ended. 0: never.",
    ] = 60
    load_timeout: Annotated[
        float,
        Meta(ge=0),
        "Seconds that the import of a plugin may take, its hooks included; one that hangs is left out. "
        "0 sets no limit and loads plugins in the main thread.",
        Flag(),
    ] = 60
    start_timeout: Annotated[Seconds, "Seconds that a connector's `start()` may take.", Flag()] = 30
    max_request_bytes: Annotated[Count, "The largest request that is accepted, in bytes.", Flag()] = 64 * 1024 * 1024
    max_json_bytes: Annotated[
        Count,
        "The largest JSON body that is accepted over HTTP, in bytes; it takes much more memory and time than a request of "
        "that size over gRPC.",
    ] = 4 * 1024 * 1024
    request_seconds: Annotated[
        Seconds,
        "Seconds in which a call's request has to arrive, header and inputs where it is a stream (transport `core`).",
    ] = 60
    max_concurrent_streams: Annotated[
        Count, "Calls that one connection may have open; its further ones wait at the client."
    ] = 1000
    loop: Annotated[
        Literal["auto", "asyncio", "uvloop"], "The event loop; `auto` takes uvloop where it is installed.", Flag()
    ] = "auto"
    transport: Annotated[
        Literal["auto", "core", "aio"],
        "How gRPC is served: `core`, by its core, which is faster; `aio`, through its own `grpc.aio`; `auto` takes `core` "
        "where the installed grpcio is known to have it.",
    ] = "auto"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        "How the log on stderr is written; `auto` takes `console` on a terminal and `json` elsewhere.",
        Flag(),
    ] = "auto"
    log_level: Annotated[
        LogLevels,
        "The lowest level that is logged: `LEVEL` (info unless set), or `LOGGER=LEVEL` for one logger and those "
        "below it; `connector_core.calls=debug` logs polls that went well, too.",
        Flag(metavar="[LOGGER=]LEVEL"),
    ] = msgspec.field(default_factory=dict)
    traces: Annotated[
        Literal["off", "otlp"],
        "Whether calls are traced (extra `otel`): `otlp` exports spans to where OpenTelemetry's own variables say, "
        "such as `OTEL_EXPORTER_OTLP_ENDPOINT`.",
        Flag(),
    ] = "off"
    modules: Annotated[Names, "Modules to load as plugins, beside the installed ones.", Flag()] = ()
    strict: Annotated[bool, "Refuse to start when any plugin fails to load.", Flag()] = False
    require: Annotated[Names, "Plugins without which the host refuses to start.", Flag()] = ()
    allow_plugin: Annotated[Names, "Load only these plugins; all, where none is named.", Flag()] = ()
    block_plugin: Annotated[Names, "Do not load these plugins.", Flag()] = ()
    allow_risks: Annotated[
        Names,
        "Plugins, or connectors as PLUGIN/CONNECTOR, whose creates are served although callers can misuse them, "
        "by what `list` says of their risks.",
        Flag(),
    ] = ()
    prefer: Annotated[
        Preferences,
        "Which plugin serves a task category that several claim, `CATEGORY=PLUGIN`, or keeps the name of a connector that "
        "several use, `name:NAME=PLUGIN`.",
        Flag(metavar="CATEGORY=PLUGIN"),
    ] = msgspec.field(default_factory=dict)
    deadlines: Annotated[DeadlineSettings, "Deadlines by operation."] = DeadlineSettings()
    permanent_create_failures: Annotated[
        Literal["resource", "status"],
        "How a create that failed for good is answered: `resource`, as OK with a job that GetTask calls FAILED, "
        "since the engine tries again on any status; `status`, as a gRPC status, for clients that read it.",
    ] = "resource"
    delete_patience: Annotated[
        float,
        Meta(ge=0),
        After(finite),
        "Seconds from a job's first DeleteTask that fails, after which further ones are answered OK, with an error in the log: "
        "engines of the 2.x line repeat them for ever.",
    ] = 600
    promise_creates: Annotated[
        Literal["auto", "never"],
        "What becomes of a create that takes longer than its caller waits: `auto`, it is answered in time with a resource "
        "meta that stands for the job to come; `never`, it fails, and the engine's next attempt starts another job.",
    ] = "auto"
    protocols: Annotated[
        Literal["auto", "v1", "both"],
        "Which engines are served: `v1`, those of the 1.x line; `both`, those of the 2.x line as well, which needs "
        "the extra `v2`; `auto`, the 2.x line where the extra is installed.",
    ] = "auto"
    retryable_failures: Annotated[
        Literal["phase", "state"],
        "The form in which engines of the 1.x line get a failure that may be tried again: `phase`, as RETRYABLE_FAILED, "
        "which 1.16 understands; `state`, as no phase and the older `state`, which 1.15 and earlier understand as well.",
    ] = "phase"
    orphan_seconds: Annotated[
        Seconds | None,
        "Seconds after which an orphan, a job whose create was never answered, is deleted; "
        "unless set, only when a later attempt of its task arrives.",
    ] = None
    max_result_bytes: Annotated[
        Count, "The largest result of a sync connector that is called as an async one, in bytes."
    ] = 100_000
    max_answer_bytes: Annotated[Count, "The largest answer that the engine receives, in bytes: gRPC's default."] = (
        4 * 1024 * 1024
    )
    limits: Annotated[
        dict[str, LimitSettings],
        'What differs for one plugin, `[limits.NAME]`, or one connector, `[limits."NAME/CONNECTOR"]`.',
    ] = msgspec.field(default_factory=dict)
    locations: Annotated[
        dict[str, LocationSettings], "Processes of their own for plugins, `[locations.NAME]`, away from the host's."
    ] = msgspec.field(default_factory=dict)
    memory: Annotated[MemorySettings, "The job memory."] = MemorySettings()
    ride_out: Annotated[RideOutSettings, "The error budget of polls."] = RideOutSettings()
    batch: Annotated[BatchSettings, "How `get_many` gathers calls."] = BatchSettings()
    signing: Annotated[SigningSettings, "Signing of resource metas."] = SigningSettings()
    secrets: Annotated[SecretSettings, "Where secrets are mounted."] = SecretSettings()
    plugins: Annotated[
        dict[str, dict[str, Any]], "Each plugin's own section, `[plugins.NAME]`, for the plugin to validate."
    ] = msgspec.field(default_factory=dict)

    def gateway_tokens(self) -> tuple[bytes, ...]:
        """Return the tokens of callers that may run tasks over HTTP; none, where that is off.

        Raises:
            SettingsError: it is on without a file of tokens, or with one that has none, or a bad one.
        """
        if self.gateway != "tasks":
            return ()
        if self.gateway_token_file is None:
            raise SettingsError(
                'gateway is "tasks", which lets callers start jobs over HTTP: name a file with a token in each line '
                "by gateway_token_file (to make one: openssl rand -hex 32 > token)"
            )
        tokens = lines_of(self.gateway_token_file, "gateway_token_file")
        if not tokens:
            raise SettingsError(f"gateway_token_file {self.gateway_token_file} holds no token")
        if not all(len(token) >= MIN_KEY_CHARACTERS and _TOKEN.fullmatch(token) for token in tokens):
            raise SettingsError(
                f"a token in gateway_token_file {self.gateway_token_file} is shorter than {MIN_KEY_CHARACTERS} characters, "
                "or has others than letters, digits and -._~+/="
            )
        return tuple(token.encode() for token in tokens)
