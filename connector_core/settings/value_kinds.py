"""The kinds of values that settings have, as they may be written on a command line, in a variable and in a file."""

import logging
import re
import socket
from pathlib import Path
from typing import Annotated

from connector_core.errors import SettingsError
from connector_core.secrets import SecretStr
from connector_core.tables import After, Before, Meta, finite
from connector_core.task import TaskCategory

OF_NAME = "name:"
"""The prefix of preferences about a connector's name, not a task category."""

LEVELS = tuple(logging.getLevelName(level) for level in (10, 20, 30, 40, 50))


def split(value: object) -> object:
    """Read `a,b` as a list, so that lists can be written in an environment variable without JSON."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_pairs(value: object) -> object:
    """Read `a=b,c=d`, or a list of `a=b`, as a mapping."""
    parts = split(value)
    if not isinstance(parts, list | tuple):
        return parts
    pairs = [part.split("=", 1) for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("write CATEGORY=PLUGIN")
    return {key.strip(): plugin.strip() for key, plugin in pairs}


def _split_levels(value: object) -> object:
    """Read `info,botocore=warning`, or a list of such, as a mapping; a level alone is that of the root logger."""
    parts = split(value)
    if not isinstance(parts, list | tuple):
        return parts
    pairs = [part.rpartition("=") for part in split(",".join(map(str, parts)))]  # type: ignore[attr-defined] # a list again
    return {logger.strip() or "root": level.strip() for logger, _, level in pairs}


def _known_levels(value: dict[str, str]) -> dict[str, str]:
    for level in value.values():
        if level.upper() not in LEVELS:
            raise ValueError(f"write LEVEL or LOGGER=LEVEL, with one of {', '.join(LEVELS).lower()}")
    return {logger: level.lower() for logger, level in value.items()}


def _canonical_categories(value: dict[str, str]) -> dict[str, str]:
    return {
        about if about.startswith(OF_NAME) else str(TaskCategory.parse(about)): plugin
        for about, plugin in value.items()
    }


_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _read_size(value: object) -> object:
    """Read `400MB` or `1GiB` as bytes; a number is one of bytes already."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", value)
    unit = None if found is None else 1 if not found[2] else _UNITS.get(found[2])
    if found is None or unit is None:
        raise ValueError(f"write bytes, or a number with one of {', '.join(_UNITS)}")
    return int(found[1]) * unit


def _host(value: str) -> str:
    """Read an address or a name, IPv6 with or without its brackets."""
    host = value.strip()
    if host.startswith("unix:") or "/" in host:
        raise ValueError(
            "a Unix socket cannot be listened on: write an address or a name, such as 127.0.0.1 or localhost"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or (":" in host and not _is_ipv6(host)):
        raise ValueError("write an address or a name without a port, such as 127.0.0.1, ::1 or localhost")
    return host


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        return False
    return True


Host = Annotated[str, After(_host)]
Size = Annotated[int, Before(_read_size), Meta(ge=1)]
Names = Annotated[tuple[str, ...], Before(split)]
SecretNames = Annotated[tuple[SecretStr, ...], Before(split)]
Preferences = Annotated[dict[str, str], Before(_split_pairs), After(_canonical_categories)]
LogLevels = Annotated[dict[str, str], Before(_split_levels), After(_known_levels)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0), After(finite)]
Count = Annotated[int, Meta(gt=0)]


def lines_of(file: Path, setting: str) -> list[str]:
    """Return the lines of a file of keys or tokens, without blank ones.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting} {file} cannot be read: {error}") from None
