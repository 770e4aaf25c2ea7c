"""What the operator decides in `[plugins.process]`: which executables may run, where, and how many."""

import os
import sys
import tempfile
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from connector_core.errors import SettingsError

SECTION = "[plugins.process]"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is relative; write the absolute path")
    return path


def _executable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f"{str(path)!r} is no executable file on this host")
    return path


def _search_path(text: str) -> str:
    for folder in text.split(":"):
        _absolute(Path(folder))
    return text


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Executable = Annotated[AbsolutePath, AfterValidator(_executable)]


class ProcessConfig(BaseModel):
    """The section `[plugins.process]`.

    Attributes:
        allow: the executables that callers may run, by absolute path; without any there is no connector.
        state: where the plugin makes its own folder, `connector-plugin-process-<user id>`, for the jobs' records and
            logs. It should survive a restart of the host; the system's folder for temporary files unless set.
        folders: callers may choose a working directory in these folders; otherwise each job has one of its own.
        path: the variable PATH of the commands.
        refuse_env: further variables that callers may not set, as patterns such as `GIT_*`.
        max_jobs: so many jobs run at a time.
        max_log_bytes: a job that writes more to stdout and stderr together is stopped and has failed.
        grace_seconds: how long a job that is told to stop (TERM) may take before it is killed.
        keep_finished_seconds: how long a finished job's records, logs and working directory are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[Executable, ...] = ()
    state: AbsolutePath = Field(default_factory=_temporary_folder)
    folders: tuple[AbsolutePath, ...] = ()
    path: Annotated[str, AfterValidator(_search_path)] = "/usr/local/bin:/usr/bin:/bin"
    refuse_env: tuple[str, ...] = ()
    max_jobs: int = Field(default=32, ge=1)
    max_log_bytes: int = Field(default=1024**3, ge=1)
    grace_seconds: float = Field(default=5.0, ge=0, le=3600)
    keep_finished_seconds: float = Field(default=24 * 3600.0, ge=0)


def read_config(section: Mapping[str, Any]) -> ProcessConfig:
    """Check the section of the settings.

    Raises:
        SettingsError: naming the key that is unknown or has an impossible value.
    """
    if sys.platform != "linux" and section:
        raise SettingsError(
            f"{SECTION}: this plugin runs on Linux only, and this is {sys.platform}; leave the section out"
        )
    try:
        return ProcessConfig.model_validate(dict(section))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(one) for one in error.errors(include_url=False))) from None


def _explain(one: Any) -> str:
    key = ".".join(str(part) for part in one["loc"])
    if one["type"] != "extra_forbidden":
        return f"{SECTION} {key}: {one['msg'].removeprefix('Value error, ')}"
    known = sorted(ProcessConfig.model_fields)
    near = get_close_matches(key, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{SECTION} has an unknown key {key!r}{hint}: it can have {', '.join(known)}"
