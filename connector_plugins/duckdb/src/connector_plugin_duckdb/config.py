"""The operator's section `[plugins.duckdb]`: what callers may reach, and how much one query may take."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError

from connector_core.errors import SettingsError

SECTION = "[plugins.duckdb]"


def _absolute(folder: Path) -> Path:
    if not folder.is_absolute():
        raise ValueError(f"{str(folder)!r} is no absolute path")
    return folder


def _remote_prefix(prefix: str) -> str:
    if not prefix.startswith(("s3://", "gs://")):
        raise ValueError(f"{prefix!r} begins with neither s3:// nor gs:// (local folders go into allowed_directories)")
    return prefix


Folder = Annotated[Path, AfterValidator(_absolute)]
RemotePrefix = Annotated[str, AfterValidator(_remote_prefix)]
Size = Annotated[ByteSize, Field(gt=0)]


class SecretRef(BaseModel):
    """Where a storage option's value comes from, so that it is never written into a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: str
    group: str | None = None


class DuckDBConfig(BaseModel):
    """The settings; see the README for what they mean to an operator."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    allowed_directories: tuple[Folder, ...] = ()
    """Local folders that callers' SQL may read and write, and where local inputs, outputs and database files may be."""

    allowed_uris: tuple[RemotePrefix, ...] = ("s3://", "gs://")
    """Object stores, buckets or folders that inputs may come from and outputs may go to."""

    memory_limit: Size = Field(default=ByteSize(10**9), validate_default=True)
    """Memory that DuckDB may take for one query, in bytes or as `512MB`."""

    disk_limit: Size = Field(default=ByteSize(10 * 10**9), validate_default=True)
    """Disk that one query may take on the host: inputs, spilled data and the result together."""

    threads: int = Field(default=2, ge=1, le=1024)
    """Threads that DuckDB may use for one query."""

    max_concurrent: int = Field(default=4, ge=1, le=1024)
    """Queries that run at the same time; more wait for their turn."""

    inline_rows: int = Field(default=1000, ge=1)
    """The longest result that is returned inline."""

    # The engine's client takes no answer of more than 4 MiB.
    inline_bytes: Annotated[ByteSize, Field(gt=0, le=4 * 10**6)] = Field(default=ByteSize(10**6), validate_default=True)
    """The largest result that is returned inline."""

    staging_directory: Folder | None = None
    """Where each query gets its private folder; the system's folder for temporary files unless set."""

    storage_options: dict[Literal["s3", "gs"], dict[str, Any]] = Field(default_factory=dict, repr=False)
    """What fsspec is given for each object store; a value `{secret = "KEY", group = "GROUP"}` is looked up as a secret."""


def load_config(section: Mapping[str, Any]) -> DuckDBConfig:
    """Validate the section.

    Raises:
        SettingsError: naming the key that is unknown or has an impossible value, and the keys that there are.
    """
    try:
        return DuckDBConfig.model_validate(dict(section))
    except ValidationError as error:
        problems = "; ".join(_explain(one) for one in error.errors(include_url=False, include_input=False))
        raise SettingsError(f"{SECTION}: {problems}") from None


def _explain(error: Any) -> str:
    location = error["loc"]
    name = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden" and len(location) == 1:
        known = sorted(DuckDBConfig.model_fields)
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"unknown key {name!r}{hint}; known are {', '.join(known)}"
    return f"{name}: {error['msg']}"
