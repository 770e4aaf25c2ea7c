"""Reads the settings, and names every mistake where it stands."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from connector_core.errors import SettingsError
from connector_core.settings.environment import ENV_PREFIX, from_environment, merged
from connector_core.settings.model import Settings
from connector_core.tables import Mistake, TableError, near, read

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
DEFAULT_FILE = Path("connector-host.toml")


def load_settings(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """Read and validate all settings.

    Args:
        flags: what was given on the command line, by setting; `None` and empty sequences were not given.
        file: the TOML file; else the one that `CONNECTOR_HOST__CONFIG` names, else `./connector-host.toml` if it is there.

    Raises:
        SettingsError: naming the setting, where it stands, and what is wrong with it.
    """
    given = {name: value for name, value in (flags or {}).items() if value not in (None, [], ())}
    path = settings_file(file)
    from_file = _read(path) if path else {}
    variables = {
        name: text
        for name, text in os.environ.items()
        if name.upper().startswith(ENV_PREFIX) and name.upper() != CONFIG_VARIABLE
    }
    _refuse_unknown(variables)
    from_variables = from_environment(variables)
    try:
        return read(Settings, merged(merged(from_file, from_variables), given))
    except TableError as error:
        raise SettingsError("\n".join(_explain(one, given, from_file, path) for one in error.mistakes)) from None


def settings_file(file: Path | None) -> Path | None:
    """Return the settings file that is read: the one that is named here, or by the variable, or the default if it is there."""
    if file is not None:
        return file
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from error


def _refuse_unknown(variables: Iterable[str]) -> None:
    """A misspelt variable would otherwise be left out in silence."""
    for variable in variables:
        name = variable[len(ENV_PREFIX) :].split("__")[0].lower()
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"the environment variable {variable} is no setting{_near(name)}")


def _near(name: str, known: tuple[str, ...] = Settings.__struct_fields__) -> str:
    return near(name, known) or f"; there are {', '.join(sorted(known))}"


def _explain(mistake: Mistake, flags: Mapping[str, Any], from_file: Mapping[str, Any], path: Path | None) -> str:
    name, where = str(mistake.path[0]), mistake.where
    if name in flags:
        source = f"--{name.replace('_', '-')}"
    elif name in from_file and f"{ENV_PREFIX}{name.upper()}" not in os.environ:
        source = f"{where!r} in {path}"
    else:
        source = f"the environment variable {ENV_PREFIX}{where.upper().replace('.', '__')}"
    if not mistake.known:
        return f"{source}: {mistake.message}"
    return f"{source} is no setting{_near(str(mistake.path[-1]), mistake.known)}"
