"""The operator's section `[plugins.postgres]`: which databases callers may use, and where results may go."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from connector_core.errors import SettingsError
from connector_core.tables import After, Meta, Table, read_table

SECTION = "[plugins.postgres]"

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
_ROLE = re.compile(r"[A-Za-z_][\w-]{0,62}")


def _dsn(dsn: str) -> str:
    parts = urlsplit(dsn)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError("does not begin with postgresql://")
    query = parse_qs(parts.query)
    if parts.password is not None or {"password", "passfile"} & set(query):
        raise ValueError("has a password; name a secret with `secret` instead")
    if not parts.hostname and "host" not in query:
        raise ValueError("names no host; write postgresql://USER@HOST/DATABASE, or ?host=/FOLDER for a socket")
    return dsn


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        raise ValueError(f"{name!r} is not a table's name in lower case, such as `flyte.jobs`")
    return name


def _role(name: str) -> str:
    if name and not _ROLE.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a role")
    return name


def _absolute(folder: Path) -> Path:
    if not folder.is_absolute():
        raise ValueError(f"{str(folder)!r} is not an absolute path")
    return folder


def _remote_prefix(prefix: str) -> str:
    if not prefix.startswith(("s3://", "gs://")):
        raise ValueError(f"{prefix!r} begins with neither s3:// nor gs:// (local folders go into allowed_directories)")
    return prefix


class SecretRef(Table, frozen=True):
    """The secret that a storage option's value comes from, so that it is never written into a settings file."""

    secret: str
    group: str | None = None


class Database(Table, frozen=True):
    """A database that callers may use by name.

    Attributes:
        dsn: where it is and as whom to log in, without a password.
        secret: the name of the secret that is the password.
        group: the secret's group.
        key_table: the table in which each job leaves its row; not for `read_only`.
        read_only: transactions cannot write, and no row is written.
        role: the role that sessions begin in.
        statement_timeout: seconds that a statement may take; 0 for no limit.
        max_jobs: statements at a time from one host; further ones wait.
        connect_timeout: seconds that opening a connection may take.
        connection_check_interval: seconds after which a server notices that the host of a running statement is gone.
        cancel_grace: seconds between a job's cancellation and the termination of its connection.
    """

    dsn: Annotated[str, After(_dsn)]
    secret: str = ""
    group: str | None = None
    key_table: Annotated[str, After(_table)] | None = None
    read_only: bool = False
    role: Annotated[str, After(_role)] = ""
    statement_timeout: Annotated[float, Meta(ge=0, le=2_000_000)] = 3600.0
    max_jobs: Annotated[int, Meta(ge=1, le=1000)] = 10
    connect_timeout: Annotated[float, Meta(gt=0, le=600)] = 10.0
    connection_check_interval: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    cancel_grace: Annotated[float, Meta(ge=0, le=60)] = 3.0


class PostgresConfig(Table, frozen=True):
    """The section `[plugins.postgres]`.

    Attributes:
        connections: the databases, by the name that callers use; without any there is no connector.
        allowed_directories: local folders that results may go to.
        allowed_uris: object stores, buckets or folders that results may go to.
        storage_options: what fsspec is given for each object store; `{secret = "KEY"}` is looked up.
        inline_rows: the longest result that is returned inline.
        inline_bytes: the largest result that is returned inline.
    """

    connections: dict[str, Database] = msgspec.field(default_factory=dict)
    allowed_directories: tuple[Annotated[Path, After(_absolute)], ...] = ()
    allowed_uris: tuple[Annotated[str, After(_remote_prefix)], ...] = ()
    storage_options: dict[Literal["s3", "gs"], dict[str, Any]] = msgspec.field(default_factory=dict)
    inline_rows: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    # The engine's client takes no answer of more than 4 MiB.
    inline_bytes: Annotated[int, Meta(ge=1, le=3 * 10**6)] = 10**6

    def __repr__(self) -> str:
        """Leave out the storage options, which may hold credentials."""
        return f"{type(self).__name__}(connections={list(self.connections)})"


def load_config(section: Mapping[str, Any]) -> PostgresConfig:
    """Check the section of the settings.

    Raises:
        SettingsError: naming the key that is unknown or has an impossible value.
    """
    config = read_table(PostgresConfig, section, SECTION)
    for name, database in config.connections.items():
        if database.read_only == (database.key_table is not None):
            raise SettingsError(
                f"{SECTION}: connections.{name}: name the `key_table` in which jobs leave their rows, or set "
                "`read_only = true`, which writes none; one of the two"
            )
    return config
