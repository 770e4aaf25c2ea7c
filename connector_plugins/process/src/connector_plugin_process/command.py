"""A task's command, checked against what the operator allows."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import Error, MessageToDict

from connector_core import InvalidInputError, PermissionDeniedError
from connector_plugin_process.config import SECTION, ProcessConfig, never_the_callers

CUSTOM_KEYS = ("argv", "env", "cwd")

_INHERITED_ENV = ("LANG", "TZ", "TMPDIR")
_PLACEHOLDER = re.compile(r"\{\{\s*[.$](?:inputs\.(?P<input>\w+)|(?P<prefix>outputPrefix))\s*\}\}", re.IGNORECASE)


class Command(msgspec.Struct, frozen=True):
    """A checked command: `argv[0]` is the executable; `cwd` is None for a folder of the job's own."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path | None


def command_of(template: TaskTemplate, inputs: Mapping[str, Any], output_prefix: str, config: ProcessConfig) -> Command:
    """Read the command from the template's `custom` or its container.

    Raises:
        InvalidInputError: there is none, or something about it is malformed or may not be set.
        PermissionDeniedError: its executable or working directory is not allowed.
    """
    try:
        custom = MessageToDict(template.custom)
    except (ValueError, Error) as error:  # NaN and infinity, which JSON has not
        raise InvalidInputError(f"custom cannot be read: {error}") from None
    if unknown := sorted(set(custom) - set(CUSTOM_KEYS)):
        raise InvalidInputError(f"custom has unknown keys {', '.join(unknown)}; it can have {', '.join(CUSTOM_KEYS)}")
    container = template.container
    argv = custom.get("argv") or [*container.command, *container.args]
    env = {pair.key: pair.value for pair in container.env} | _mapping(custom.get("env") or {})
    argv = [render(one, inputs, output_prefix) for one in _strings(argv)]
    return Command(
        argv=[str(allowed_executable(argv[0], config.allow)), *argv[1:]],
        env=_base_env(config) | _checked_env(env, config),
        cwd=_allowed_folder(custom.get("cwd"), config.folders),
    )


def allowed_executable(wanted: str, allow: Sequence[Path]) -> Path:
    """Return the operator's entry that `wanted` names, by absolute path or by bare name.

    Symbolic links are followed in the folders (so that `/bin/echo` and `/usr/bin/echo` are one on a system where `/bin`
    is a link) but not in the last part: programs such as busybox are many in one file, told apart by the name that they
    are called by, so a link's target says nothing about what may run. For the same reason the entry itself is what is
    run, under its own name, and never the path that the caller wrote.

    Raises:
        PermissionDeniedError: listing what is allowed.
    """
    entries = dict.fromkeys(allow)
    if "/" not in wanted:
        found = [entry for entry in entries if entry.name == wanted]
    elif wanted.startswith("/"):
        found = [entry for entry in entries if _place(str(entry)) == _place(wanted)][:1]
    else:
        found = []
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(entry) for entry in entries)
    if found:
        raise PermissionDeniedError(
            f"{wanted!r} names several allowed executables; write one of them in full: {listed}"
        )
    raise PermissionDeniedError(
        f"{wanted!r} may not be run; allowed are {listed} (an absolute path, or its last part). "
        f"The operator decides, by `allow` in {SECTION}"
    )


def _place(path: str) -> tuple[str, str]:
    folder, name = os.path.split(path)
    return os.path.realpath(folder), name


def render(argument: str, inputs: Mapping[str, Any], output_prefix: str) -> str:
    """Fill in `{{.inputs.NAME}}` and `{{.outputPrefix}}`, as in the command of a container task.

    Raises:
        InvalidInputError: there is no such input, or it has no one obvious text.
    """

    def value(match: re.Match[str]) -> str:
        if match["prefix"]:
            return output_prefix
        if match["input"] not in inputs:
            known = ", ".join(sorted(inputs)) or "none"
            raise InvalidInputError(
                f"{argument!r} asks for an input {match['input']!r}; the task's inputs are: {known}"
            )
        return _text(match["input"], inputs[match["input"]])

    return _PLACEHOLDER.sub(value, argument)


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case datetime():
            return value.isoformat()
    raise InvalidInputError(
        f"input {name!r} is a {type(value).__name__}; in a command can stand texts, numbers, booleans and dates"
    )


def _strings(argv: object) -> list[str]:
    if not isinstance(argv, list):
        raise InvalidInputError(
            f"custom.argv is not a list but {argv!r}; write the command and each argument as one item"
        )
    if not argv or not argv[0]:
        raise InvalidInputError("there is no command: the task has neither custom.argv nor a container with one")
    for place, one in enumerate(argv):
        if not isinstance(one, str):
            raise InvalidInputError(f"argv[{place}] is {one!r}; it has to be a string")
        if "\0" in one:
            raise InvalidInputError(f"argv[{place}] has a NUL character, which no argument can have")
    return argv


def _mapping(env: object) -> dict[str, str]:
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise InvalidInputError(f"custom.env maps names to strings; it is {env!r}")
    return env


def _checked_env(env: dict[str, str], config: ProcessConfig) -> dict[str, str]:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidInputError(f"{name!r} is not an environment variable that can be set")
        if pattern := never_the_callers(name):
            raise InvalidInputError(f"the environment variable {name} is never set by a task ({pattern}); leave it out")
        if not any(fnmatchcase(name, pattern) for pattern in config.allow_env):
            allowed = ", ".join(config.allow_env) or "none"
            raise PermissionDeniedError(
                f"the environment variable {name} may not be set; callers may set: {allowed}. "
                f'The operator decides, by `allow_env = ["{name}"]` in {SECTION}'
            )
        for pattern in config.refuse_env:
            if fnmatchcase(name, pattern):
                raise PermissionDeniedError(
                    f"the environment variable {name} may not be set: `refuse_env` in {SECTION} excepts {pattern}"
                )
    return env


def _base_env(config: ProcessConfig) -> dict[str, str]:
    """Take only a few harmless ones of the host's own variables: the others hold its secrets and settings."""
    inherited = {name: os.environ[name] for name in _INHERITED_ENV if name in os.environ}
    return {"PATH": config.path, "LANG": "C.UTF-8"} | inherited


def _allowed_folder(wanted: object, folders: Sequence[Path]) -> Path | None:
    if not wanted:
        return None
    if not isinstance(wanted, str) or not wanted.startswith("/") or "\0" in wanted:
        raise InvalidInputError(f"custom.cwd is {wanted!r}; it has to be the absolute path of a folder")
    place = Path(os.path.realpath(wanted))
    if not any(place.is_relative_to(os.path.realpath(folder)) for folder in folders):
        listed = ", ".join(str(folder) for folder in folders) or "none, so leave cwd out"
        raise PermissionDeniedError(
            f"{wanted!r} may not be the working directory; folders in which it may be: {listed}. "
            f"The operator decides, by `folders` in {SECTION}"
        )
    if not place.is_dir():
        raise InvalidInputError(f"the working directory {wanted!r} is not a folder on this host")
    return place
