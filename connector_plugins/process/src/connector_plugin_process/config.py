"""The operator's section `[plugins.process]`: which executables may run, where, and how many."""

import os
import sys
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec

from connector_core.errors import SettingsError
from connector_core.tables import After, Meta, Mistake, Table, TableError, near, read
from connector_plugin_process.wrapper import MARKER

SECTION = "[plugins.process]"

NEVER_THE_CALLERS = (
    # HOME: with it a caller chooses the start-up files of what runs, and with `.local/lib/*.pth` Python code.
    *("LD_*", "PYTHON*", "PATH", "HOME"),
    # The same thing by other names: each makes an innocent program load or run what the caller likes.
    *("GCONV_PATH", "GLIBC_TUNABLES", "BASH_ENV", "BASH_FUNC_*", "BASHOPTS", "SHELLOPTS", "PS4", "IFS"),
    *("PERL5LIB", "PERL5OPT", "PERL5DB", "PERLLIB", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH"),
    *("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"),
    MARKER,
)
"""Patterns of the variables that callers may not set, whatever `allow_env` has."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is relative; write the absolute path")
    return path


def _executable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f"{str(path)!r} is not an executable file on this host")
    return path


def never_the_callers(name: str) -> str:
    """Return the pattern for which a variable may never be set by a caller, or nothing."""
    return next((pattern for pattern in NEVER_THE_CALLERS if fnmatchcase(name, pattern)), "")


def _variable(pattern: str) -> str:
    if never_the_callers(pattern):
        raise ValueError(f"{pattern!r} is never set by callers, whatever is allowed; leave it out")
    return pattern


def _search_path(text: str) -> str:
    for folder in text.split(":"):
        _absolute(Path(folder))
    return text


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


AbsolutePath = Annotated[Path, After(_absolute)]
Executable = Annotated[AbsolutePath, After(_executable)]
Variable = Annotated[str, After(_variable)]


class ProcessConfig(Table, frozen=True):
    """The section `[plugins.process]`.

    Attributes:
        allow: the executables that callers may run, by absolute path; without any there is no connector.
        state: where the plugin makes its own folder, `connector-plugin-process-<user id>`, for the jobs' records and
            logs. It should survive a restart of the host; the system's folder for temporary files unless set.
        folders: callers may choose a working directory in these folders; otherwise each job has one of its own.
        path: the variable PATH of the commands.
        allow_env: the variables that callers may set, by name or as patterns such as `REPORT_*`; none unless set.
        refuse_env: exceptions from `allow_env`, in the same form.
        max_jobs: so many jobs run at a time.
        max_log_bytes: a job that writes more to stdout and stderr together is stopped and has failed.
        max_job_bytes: a job whose folder (its output and the files that it makes there) takes more is killed and has
            failed.
        grace_seconds: how long a job that is told to stop (TERM) may take before it is killed.
        keep_finished_seconds: how long a finished job's records, logs and working directory are kept.
    """

    allow: tuple[Executable, ...] = ()
    state: AbsolutePath = msgspec.field(default_factory=_temporary_folder)
    folders: tuple[AbsolutePath, ...] = ()
    path: Annotated[str, After(_search_path)] = "/usr/local/bin:/usr/bin:/bin"
    allow_env: tuple[Variable, ...] = ()
    refuse_env: tuple[str, ...] = ()
    max_jobs: Annotated[int, Meta(ge=1)] = 32
    max_log_bytes: Annotated[int, Meta(ge=1)] = 1024**3
    max_job_bytes: Annotated[int, Meta(ge=4096)] = 16 * 1024**3
    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    keep_finished_seconds: Annotated[float, Meta(ge=0)] = 24 * 3600.0


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
        return read(ProcessConfig, section)
    except TableError as error:
        raise SettingsError("; ".join(map(_explain, error.mistakes))) from None


def _explain(one: Mistake) -> str:
    if not one.known:
        return f"{SECTION} {one.where}: {one.message}"
    hint = near(one.where, one.known)
    return f"{SECTION} has an unknown key {one.where!r}{hint}: it can have {', '.join(one.known)}"
