"""The host's settings, validated once: command-line flag, then environment, then TOML file, then default."""

import json
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from connector_core.errors import SettingsError
from connector_core.secrets import SecretSource
from connector_core.task import TaskCategory

ENV_PREFIX = "CONNECTOR_HOST__"
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
DEFAULT_FILE = Path("connector-host.toml")
MIN_KEY_CHARACTERS = 16
_FROM_FILE = "__file__"


def _split(value: object) -> object:
    """Read `a,b` as a list, so that lists can be written in an environment variable without JSON."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_pairs(value: object) -> object:
    """Read `a=b,c=d`, or a list of `a=b`, as a mapping."""
    parts = _split(value)
    if not isinstance(parts, list | tuple):
        return parts
    pairs = [part.split("=", 1) for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("write CATEGORY=PLUGIN")
    return {key.strip(): plugin.strip() for key, plugin in pairs}


def _canonical_categories(value: dict[str, str]) -> dict[str, str]:
    return {str(TaskCategory.parse(category)): plugin for category, plugin in value.items()}


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Preferences = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs), AfterValidator(_canonical_categories)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A table of the settings file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeadlineSettings(Section):
    """How long a call may take, in seconds; a client's shorter deadline wins."""

    create: Seconds = Field(60, description="Deadline of `create`, in seconds.")
    get: Seconds = Field(30, description="Deadline of `get`, in seconds.")
    get_many: Seconds = Field(30, description="Deadline of `get_many`, in seconds.")
    delete: Seconds = Field(60, description="Deadline of `delete`, in seconds.")
    do: Seconds = Field(600, description="Deadline of a sync connector's `do`, in seconds.")
    get_metrics: Seconds = Field(30, description="Deadline of `get_metrics`, in seconds.")
    get_logs: Seconds = Field(3600, description="Deadline of a whole `get_logs` stream, in seconds.")


class OperationDeadlines(Section):
    """Deadlines that differ from the general ones, in seconds."""

    create: Seconds | None = None
    get: Seconds | None = None
    get_many: Seconds | None = None
    delete: Seconds | None = None
    do: Seconds | None = None
    get_metrics: Seconds | None = None
    get_logs: Seconds | None = None


class LimitSettings(Section):
    """What differs for one plugin (`[limits.NAME]`) or one of its connectors (`[limits."NAME/CONNECTOR"]`)."""

    workers: Count | None = Field(None, description="As the setting `workers`.")
    queue: Annotated[int, Field(ge=0)] | None = Field(None, description="As the setting `queue`.")
    wait: Seconds | None = Field(None, description="As the setting `wait`.")
    in_flight: Count | None = Field(None, description="As the setting `in_flight`.")
    deadlines: OperationDeadlines = Field(OperationDeadlines(), description="As the setting `deadlines`.")


class SecretSettings(Section):
    """Where `get_secret` looks."""

    env_prefix: str = Field("_FSEC_", description="What the environment variables of secrets begin with.")
    folder: Path = Field(Path("/etc/secrets"), description="The folder in which secrets are mounted as files.")

    def source(self) -> SecretSource:
        """Return where to look, for `connector_core.secrets`."""
        return SecretSource(self.env_prefix, self.folder)


class MemorySettings(Section):
    """Where the host keeps what it remembers of jobs."""

    kind: Literal["process", "sqlite", "redis"] = Field(
        "process",
        description="`process`: in memory; `sqlite`: a file that survives a restart; `redis`: shared by replicas.",
    )
    path: Path = Field(Path("connector-host.sqlite"), description="The file of `sqlite`.")
    url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="The URL of `redis`.")
    entries: Count = Field(100_000, description="How many jobs are remembered at the most, by `process` and `sqlite`.")
    seconds: Seconds = Field(86_400, description="How long a job is remembered after its last change, in seconds.")


class RideOutSettings(Section):
    """How long a job's failing `get` is answered with the last known phase."""

    failures: Annotated[int, Field(ge=0)] = Field(
        100, description="GetTask calls of one task that may fail in a row before the error goes out."
    )
    seconds: Annotated[float, Field(ge=0)] = Field(
        3600, description="Seconds that GetTask calls of one task may fail in a row before the error goes out."
    )


class BatchSettings(Section):
    """How GetTask calls are gathered for connectors that have `get_many`."""

    window: Seconds = Field(0.005, description="Seconds for which calls are gathered.")
    size: Count = Field(500, description="How many jobs one `get_many` asks for at the most.")


class SigningSettings(Section):
    """Signing of resource metas, so that plugin code sees none that a host of yours did not write."""

    keys_file: Path | None = Field(
        None, description="A file with a key in each line (16 characters or more): the first signs, all verify."
    )
    keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="The keys themselves, for the environment."
    )

    def all_keys(self) -> tuple[bytes, ...]:
        """Return the keys, the one that signs first; none, where signing is off.

        Raises:
            SettingsError: the file cannot be read, or a key is too short to be one.
        """
        texts = [key.get_secret_value() for key in self.keys]
        if self.keys_file is not None:
            try:
                texts += [line.strip() for line in self.keys_file.read_text().splitlines() if line.strip()]
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"signing.keys_file {self.keys_file} cannot be read: {error}") from None
            if not texts:
                raise SettingsError(f"signing.keys_file {self.keys_file} has no key")
        if any(len(text) < MIN_KEY_CHARACTERS for text in texts):
            raise SettingsError(f"a signing key is shorter than {MIN_KEY_CHARACTERS} characters")
        return tuple(text.encode() for text in texts)


class Settings(BaseSettings):
    """All settings of a host."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=False
    )

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 opens the host to the network.")
    port: Port = Field(8000, description="The gRPC port; 0 takes a free one.")
    http_port: Port = Field(9090, description="The HTTP port of /metrics; 0 takes a free one.")
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
    start_timeout: Seconds = Field(30, description="Seconds that a connector's `start()` may take.")
    max_request_bytes: Count = Field(64 * 1024 * 1024, description="The largest request that is accepted, in bytes.")
    loop: Literal["auto", "asyncio", "uvloop"] = Field(
        "auto", description="The event loop; `auto` takes uvloop where it is installed."
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - part of pydantic-settings' signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the sources in order; what stood in the file comes in among the arguments, and goes last."""
        assert isinstance(init_settings, InitSettingsSource)  # noqa: S101 - pydantic-settings' own class
        from_file = init_settings.init_kwargs.pop(_FROM_FILE, {})
        return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, from_file)


class _Environment(EnvSettingsSource):
    """The environment; lists and tables of a plugin's section are JSON there, whose types only the plugin knows."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        for section in values.get("plugins", {}).values():
            for key, value in section.items():
                section[key] = _from_json(value)
        return values


def _from_json(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def load_settings(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """Read and validate all settings.

    Args:
        flags: what was given on the command line, by setting; `None` and empty lists were not given.
        file: the TOML file; else the one that `CONNECTOR_HOST__CONFIG` names, else `./connector-host.toml` if it is there.

    Raises:
        SettingsError: naming the setting, where it stands, and what is wrong with it.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None and value != []}
    path = _settings_file(file)
    from_file = _read(path) if path else {}
    _refuse_unknown_variables()
    try:
        return Settings.model_validate({**given, _FROM_FILE: from_file})
    except ValidationError as error:
        raise SettingsError(_explain(error, given, from_file, path)) from None
    except PydanticSettingsError as error:
        raise SettingsError(f"the environment: {error}") from error


def _settings_file(file: Path | None) -> Path | None:
    if file is not None:
        return file
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from error


def _refuse_unknown_variables() -> None:
    """A misspelt variable would otherwise be left out in silence."""
    for variable in os.environ:
        upper = variable.upper()
        if not upper.startswith(ENV_PREFIX) or upper == CONFIG_VARIABLE:
            continue
        name = upper.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if name not in Settings.model_fields:
            raise SettingsError(f"the environment variable {variable} is no setting{_near(name)}")


def _near(name: str) -> str:
    near = get_close_matches(name, Settings.model_fields, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; there are {', '.join(sorted(Settings.model_fields))}"


def _explain(error: ValidationError, flags: Mapping[str, Any], from_file: Mapping[str, Any], path: Path | None) -> str:
    lines = []
    for one in error.errors(include_url=False, include_input=False):
        name = str(one["loc"][0])
        where = ".".join(str(part) for part in one["loc"])
        if name in flags:
            source = f"--{name.replace('_', '-')}"
        elif name in from_file and f"{ENV_PREFIX}{name.upper()}" not in os.environ:
            source = f"{where!r} in {path}"
        else:
            source = f"the environment variable {ENV_PREFIX}{where.upper().replace('.', '__')}"
        unknown = one["type"] == "extra_forbidden"
        problem = f"is no setting{_near(name) if len(one['loc']) == 1 else ''}" if unknown else f": {one['msg']}"
        lines.append(f"{source}{' ' if unknown else ''}{problem}")
    return "\n".join(lines)
