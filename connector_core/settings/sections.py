"""The tables of the settings, each validated by itself."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from connector_core.errors import SettingsError
from connector_core.secrets import SecretSource
from connector_core.settings.kinds import Count, Seconds, lines_of, split

MIN_KEY_CHARACTERS = 16


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

    window: Seconds = Field(0.02, description="Seconds for which calls are gathered.")
    size: Count = Field(500, description="How many jobs one `get_many` asks for at the most.")


class SigningSettings(Section):
    """Signing of resource metas, so that plugin code sees none that a host of yours did not write."""

    keys_file: Path | None = Field(
        None, description="A file with a key in each line (16 characters or more): the first signs, all verify."
    )
    keys: Annotated[tuple[SecretStr, ...], BeforeValidator(split)] = Field(
        (), description="The keys themselves, for the environment."
    )

    def all_keys(self) -> tuple[bytes, ...]:
        """Return the keys, the one that signs first; none, where signing is off.

        Raises:
            SettingsError: the file cannot be read, or a key is too short to be one.
        """
        texts = [key.get_secret_value() for key in self.keys]
        if self.keys_file is not None:
            texts += lines_of(self.keys_file, "signing.keys_file")
            if not texts:
                raise SettingsError(f"signing.keys_file {self.keys_file} has no key")
        if any(len(text) < MIN_KEY_CHARACTERS for text in texts):
            raise SettingsError(f"a signing key is shorter than {MIN_KEY_CHARACTERS} characters")
        return tuple(text.encode() for text in texts)
