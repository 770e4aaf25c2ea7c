"""The operator's section `[plugins.duckdb]`: what callers may reach, and how much one query may take."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec

from connector_core.tables import After, Before, Meta, Table, read_table

SECTION = "[plugins.duckdb]"

_UNITS = {
    "": 1,
    **{f"{prefix}{i}": base**power for i, base in (("", 1000), ("i", 1024)) for power, prefix in enumerate("kmgtp", 1)},
}
_SIZE = re.compile(rf"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>({'|'.join(_UNITS)})b?)\s*", re.IGNORECASE)


def _absolute(folder: Path) -> Path:
    if not folder.is_absolute():
        raise ValueError(f"{str(folder)!r} is not an absolute path")
    return folder


def _remote_prefix(prefix: str) -> str:
    if not prefix.startswith(("s3://", "gs://")):
        raise ValueError(f"{prefix!r} begins with neither s3:// nor gs:// (local folders go into allowed_directories)")
    return prefix


def _bytes(size: object) -> object:
    """Read `512MB` and `1GiB` as numbers of bytes."""
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None:
        return size
    return int(float(found["number"]) * _UNITS[found["unit"].lower().removesuffix("b")])


Folder = Annotated[Path, After(_absolute)]
RemotePrefix = Annotated[str, After(_remote_prefix)]
Size = Annotated[int, Before(_bytes), Meta(gt=0)]
Options = dict[Literal["s3", "gs"], dict[str, Any]]


class SecretRef(Table, frozen=True):
    """The secret that a storage option's value comes from, so that it is never written into a settings file."""

    secret: str
    group: str | None = None


class DuckDBConfig(Table, frozen=True):
    """The settings; see the README for what they mean to an operator."""

    allowed_directories: tuple[Folder, ...] = ()
    """Local folders, or single files, that callers' SQL may read and write: local inputs, outputs and database files too."""

    allowed_uris: tuple[RemotePrefix, ...] = ()
    """Object stores, buckets or folders that inputs may come from and outputs may go to."""

    memory_limit: Size = 10**9
    """Memory that DuckDB may take for one query, in bytes or as `512MB`."""

    disk_limit: Size = 10 * 10**9
    """Disk that one query may take on the host: inputs, spilled data and the result together."""

    threads: Annotated[int, Meta(ge=1, le=1024)] = 2
    """Threads that DuckDB may use for one query."""

    max_concurrent: Annotated[int, Meta(ge=1, le=1024)] = 4
    """Queries that run at the same time; more wait for their turn."""

    inline_rows: Annotated[int, Meta(ge=1)] = 1000
    """The longest result that is returned inline."""

    # The engine's client takes no answer of more than 4 MiB.
    inline_bytes: Annotated[Size, Meta(le=4 * 10**6)] = 10**6
    """The largest result that is returned inline."""

    staging_directory: Folder | None = None
    """The folder of the queries' private folders; the system's folder for temporary files unless set."""

    storage_options: Options = msgspec.field(default_factory=dict)
    """The options of fsspec for each object store; a value `{secret = "KEY", group = "GROUP"}` is looked up as a secret."""

    def opened(self, places: Sequence[str]) -> "DuckDBConfig":
        """Return these settings with further URIs, local or remote, that queries may use."""
        remote = [one for one in places if one.startswith(("s3://", "gs://"))]
        local = [Path(unquote(one.removeprefix("file://"))) for one in places if one.startswith("file:///")]
        return msgspec.structs.replace(
            self,
            allowed_directories=(*self.allowed_directories, *local),
            allowed_uris=(*self.allowed_uris, *remote),
        )

    def __repr__(self) -> str:
        """Leave out the storage options, which may hold credentials."""
        shown = (name for name in self.__struct_fields__ if name != "storage_options")
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def load_config(section: Mapping[str, Any]) -> DuckDBConfig:
    """Validate the section.

    Raises:
        SettingsError: naming the key that is unknown or has an impossible value, and the keys that there are.
    """
    return read_table(DuckDBConfig, section, SECTION)
