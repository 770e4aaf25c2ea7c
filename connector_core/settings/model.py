"""All settings of a host."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_core.errors import SettingsError
from connector_core.settings.kinds import Count, LogLevels, Names, Port, Preferences, Seconds, lines_of
from connector_core.settings.sections import (
    MIN_KEY_CHARACTERS,
    BatchSettings,
    DeadlineSettings,
    LimitSettings,
    MemorySettings,
    RideOutSettings,
    SecretSettings,
    Section,
    SigningSettings,
)

_TOKEN = re.compile(r"[\w\-.~+/=]+", re.ASCII)


class Settings(Section):
    """All settings of a host, as they are given here; `load_settings` reads the environment and a file as well."""

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 opens the host to the network.")
    port: Port = Field(8000, description="The gRPC port; 0 takes a free one.")
    http_port: Port = Field(
        9090, description="The HTTP port: console, metrics, health, JSON gateway; 0 takes a free one."
    )
    console: bool = Field(
        True, description="Show plugins, connectors and recent calls to browsers, at `/` of the HTTP port."
    )
    recent_calls: Count = Field(
        200, description="Calls that the console shows of each operation at the most, failed ones counted apart."
    )
    gateway: Literal["metadata", "tasks"] = Field(
        "metadata",
        description="What of the protocol is served as JSON on the HTTP port: `metadata`, which connectors there are; "
        "`tasks`, to start, read and cancel jobs as well.",
    )
    gateway_token_file: Path | None = Field(
        None,
        description="A file with a token in each line (16 characters or more): callers of `gateway = tasks` bring one of them.",
    )
    gateway_hosts: Names = Field(
        (),
        description="Names by which viewers of the console and callers of `gateway = tasks` may call this host, besides "
        "localhost and its addresses.",
    )
    workers: Count = Field(10, description="Threads for blocking code, for each connector.")
    queue: Annotated[int, Field(ge=0)] = Field(
        1000, description="Calls of one connector that may wait for a thread before further ones are refused."
    )
    wait: Seconds | None = Field(
        None, description="Seconds for which a call may wait for a thread; as long as its deadline, where none is set."
    )
    in_flight: Count = Field(1000, description="Calls of one connector's async code that may be under way.")
    in_place: Names = Field(
        (), description="Plugins that you vouch for: their async code runs on the serving loop, which is faster."
    )
    stall_seconds: Seconds = Field(
        1.0, description="Report a plugin whose async code keeps its loop to itself for so many seconds."
    )
    timeout: Seconds | None = Field(None, description="Stop the server after so many seconds.")
    grace: Annotated[float, Field(ge=0)] = Field(
        30, description="Seconds that calls in flight have to finish when the host is asked to stop."
    )
    max_connection_age: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1800,
        description="Seconds after which a client is asked to connect anew, which is when it looks for replicas that were "
        "added; calls under way are finished. 0: never.",
    )
    start_timeout: Seconds = Field(30, description="Seconds that a connector's `start()` may take.")
    max_request_bytes: Count = Field(64 * 1024 * 1024, description="The largest request that is accepted, in bytes.")
    loop: Literal["auto", "asyncio", "uvloop"] = Field(
        "auto", description="The event loop; `auto` takes uvloop where it is installed."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="How the log on stderr is written; `auto` takes `console` on a terminal and `json` elsewhere.",
    )
    log_level: LogLevels = Field(
        {},
        description="The lowest level that is logged: `LEVEL` (info unless set), or `LOGGER=LEVEL` for one logger and those "
        "below it; `connector_core.calls=debug` logs polls that went well, too.",
    )
    traces: Literal["off", "otlp"] = Field(
        "off",
        description="Whether calls are traced (extra `otel`): `otlp` exports spans to where OpenTelemetry's own variables say, "
        "such as `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    modules: Names = Field((), description="Modules to load as plugins, beside the installed ones.")
    strict: bool = Field(False, description="Refuse to start when any plugin fails to load.")
    require: Names = Field((), description="Plugins without which the host refuses to start.")
    allow_plugin: Names = Field((), description="Load only these plugins; all, where none is named.")
    block_plugin: Names = Field((), description="Do not load these plugins.")
    prefer: Preferences = Field(
        {}, description="Which plugin serves a task category that several claim: `CATEGORY=PLUGIN`."
    )
    deadlines: DeadlineSettings = Field(DeadlineSettings(), description="Deadlines by operation.")
    permanent_create_failures: Literal["resource", "status"] = Field(
        "resource",
        description="How a create that failed for good is answered: `resource`, as OK with a job that GetTask calls FAILED, "
        "since the engine tries again on any status; `status`, as a gRPC status, for clients that read it.",
    )
    protocols: Literal["auto", "v1", "both"] = Field(
        "auto",
        description="Which engines are served: `v1`, those of the 1.x line; `both`, those of the 2.x line as well, which needs "
        "the extra `v2`; `auto`, the 2.x line where the extra is installed.",
    )
    retryable_failures: Literal["phase", "state"] = Field(
        "phase",
        description="How engines of the 1.x line are told of a failure that may be tried again: `phase`, as RETRYABLE_FAILED, "
        "which 1.16 understands; `state`, as no phase and the older `state`, which 1.15 and earlier understand as well.",
    )
    orphan_seconds: Seconds | None = Field(
        None,
        description="Delete a job whose create nobody got the answer of after so many seconds; "
        "else only when a later attempt of its task arrives.",
    )
    max_result_bytes: Count = Field(
        100_000, description="The largest result of a sync connector that is called as an async one, in bytes."
    )
    max_answer_bytes: Count = Field(
        4 * 1024 * 1024, description="The largest answer that the engine receives, in bytes: gRPC's default."
    )
    limits: dict[str, LimitSettings] = Field(
        {}, description='What differs for one plugin, `[limits.NAME]`, or one connector, `[limits."NAME/CONNECTOR"]`.'
    )
    memory: MemorySettings = Field(MemorySettings(), description="What is remembered of jobs, and where.")
    ride_out: RideOutSettings = Field(RideOutSettings(), description="How long a failing `get` is ridden out.")
    batch: BatchSettings = Field(BatchSettings(), description="How `get_many` gathers calls.")
    signing: SigningSettings = Field(SigningSettings(), description="Signing of resource metas.")
    secrets: SecretSettings = Field(SecretSettings(), description="Where secrets are mounted.")
    plugins: dict[str, dict[str, Any]] = Field(
        {}, description="Each plugin's own section, `[plugins.NAME]`, for the plugin to validate."
    )

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
            raise SettingsError(f"gateway_token_file {self.gateway_token_file} has no token")
        if not all(len(token) >= MIN_KEY_CHARACTERS and _TOKEN.fullmatch(token) for token in tokens):
            raise SettingsError(
                f"a token in gateway_token_file {self.gateway_token_file} is shorter than {MIN_KEY_CHARACTERS} characters, "
                "or has others than letters, digits and -._~+/="
            )
        return tuple(token.encode() for token in tokens)
