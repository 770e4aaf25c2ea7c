"""The tables of the settings, each validated by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from connector_core.errors import SettingsError
from connector_core.operations import OPERATIONS
from connector_core.secrets import SecretSource, SecretStr
from connector_core.settings.value_kinds import Count, Names, Seconds, SecretNames, Size, lines_of
from connector_core.tables import Meta, Table, made_table

MIN_KEY_CHARACTERS = 16


_DEADLINES: Mapping[str, float] = {
    name: operation.deadline for name, operation in OPERATIONS.items() if operation.deadline is not None
}

if TYPE_CHECKING:

    class DeadlineSettings(Table, frozen=True):
        """The deadlines of calls, in seconds, by operation; a client's shorter deadline wins."""

        def __getattr__(self, operation: str) -> float: ...

    class OperationDeadlines(Table, frozen=True):
        """Deadlines that differ from the general ones, in seconds, by operation."""

        def __getattr__(self, operation: str) -> float | None: ...

else:
    # Made from the table of operations, so that a new one is said there alone.
    DeadlineSettings = made_table(
        "DeadlineSettings",
        {name: (Annotated[Seconds, f"Deadline of `{name}`, in seconds."], _DEADLINES[name]) for name in _DEADLINES},
    )
    OperationDeadlines = made_table("OperationDeadlines", dict.fromkeys(_DEADLINES, (Seconds | None, None)))


class LimitSettings(Table, frozen=True):
    """The limits of one plugin (`[limits.NAME]`) or one of its connectors (`[limits."NAME/CONNECTOR"]`)."""

    workers: Annotated[Count | None, "As the setting `workers`."] = None
    queue: Annotated[Annotated[int, Meta(ge=0)] | None, "As the setting `queue`."] = None
    wait: Annotated[Seconds | None, "As the setting `wait`."] = None
    in_flight: Annotated[Count | None, "As the setting `in_flight`."] = None
    deadlines: Annotated[OperationDeadlines, "As the setting `deadlines`."] = OperationDeadlines()


class LocationSettings(Table, frozen=True):
    """A process of its own for plugins (`[locations.NAME]`)."""

    plugins: Annotated[Names, "The plugins that run there: installed ones, or modules of `modules`."] = ()
    ready_timeout: Annotated[
        Seconds, "Seconds in which its process has to be ready at the start of the host; else its plugins have failed."
    ] = 60
    memory_limit: Annotated[
        Size | None,
        "Bytes of memory, or a size such as `400MB` or `1GiB`, over which its process is ended and started again; needs /proc.",
    ] = None
    env: Annotated[dict[str, str], "Variables of its environment, over the host's."] = msgspec.field(
        default_factory=dict
    )


class SecretSettings(Table, frozen=True):
    """The places where `get_secret` looks."""

    env_prefix: Annotated[str, "What the environment variables of secrets begin with."] = "_FSEC_"
    folder: Annotated[Path, "The folder in which secrets are mounted as files."] = Path("/etc/secrets")

    def source(self) -> SecretSource:
        """Return where to look, for `connector_core.secrets`."""
        return SecretSource(self.env_prefix, self.folder)


class MemorySettings(Table, frozen=True):
    """The job memory: its kind, place and size."""

    kind: Annotated[
        Literal["process", "sqlite", "redis"],
        "`process`: in memory; `sqlite`: a file that survives a restart; `redis`: shared by replicas.",
    ] = "process"
    path: Annotated[Path, "The file of `sqlite`."] = Path("connector-host.sqlite")
    url: Annotated[SecretStr, "The URL of `redis`."] = SecretStr("redis://127.0.0.1:6379/0")
    entries: Annotated[Count, "How many jobs are remembered at the most, by `process` and `sqlite`."] = 100_000
    seconds: Annotated[Seconds, "How long a job is remembered after its last change, in seconds."] = 86_400


class RideOutSettings(Table, frozen=True):
    """The error budget of polls: how long a failing `get` is answered with the last known phase."""

    failures: Annotated[
        int, Meta(ge=0), "GetTask calls of one task that may fail in a row before the error goes out."
    ] = 100
    seconds: Annotated[
        float, Meta(ge=0), "Seconds that GetTask calls of one task may fail in a row before the error goes out."
    ] = 3600


class BatchSettings(Table, frozen=True):
    """Batches: how GetTask calls are gathered for connectors that have `get_many`."""

    window: Annotated[Seconds, "Seconds for which calls are gathered."] = 0.02
    size: Annotated[Count, "How many jobs one `get_many` asks for at the most."] = 500


class SigningSettings(Table, frozen=True):
    """Signing of resource metas, so that plugin code sees only those that a host of yours wrote."""

    keys_file: Annotated[
        Path | None, "A file with a key in each line (16 characters or more): the first signs, all verify."
    ] = None
    keys: Annotated[SecretNames, "The keys themselves, for the environment."] = ()

    def all_keys(self) -> tuple[bytes, ...]:
        """Return the keys, the one that signs first; none, where signing is off.

        Raises:
            SettingsError: the file cannot be read, or a key is too short to be one.
        """
        texts = [key.get_secret_value() for key in self.keys]
        if self.keys_file is not None:
            texts += lines_of(self.keys_file, "signing.keys_file")
            if not texts:
                raise SettingsError(f"signing.keys_file {self.keys_file} holds no key")
        if any(len(text) < MIN_KEY_CHARACTERS for text in texts):
            raise SettingsError(f"a signing key is shorter than {MIN_KEY_CHARACTERS} characters")
        return tuple(text.encode() for text in texts)
