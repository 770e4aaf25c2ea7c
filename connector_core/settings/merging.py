"""Reads the settings, and names every mistake where it stands."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from connector_core.errors import SettingsError
from connector_core.settings.layers import (
    ENV_PREFIX,
    Layer,
    Source,
    layer_of,
    layer_of_variables,
    merged,
    source_of,
    values_of,
)
from connector_core.settings.model import Settings
from connector_core.tables import Mistake, TableError, read
from connector_core.texts import alike

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
    path = settings_file(file)
    variables = {
        name: text
        for name, text in os.environ.items()
        if name.upper().startswith(ENV_PREFIX) and name.upper() != CONFIG_VARIABLE
    }
    _refuse_unknown(variables)
    layer = layer_of(_read(path), Source(str(path))) if path else {}
    layer = merged(layer, layer_of_variables(variables))
    for name, value in (flags or {}).items():
        if value not in (None, [], ()):
            layer = merged(layer, layer_of({name: _as_text(value)}, Source.flag(name)))
    try:
        return read(Settings, values_of(layer))
    except TableError as error:
        raise SettingsError("\n".join(_explain(mistake, layer) for mistake in error.mistakes)) from None


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
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not UTF-8: {error}; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from error


def _as_text(value: Any) -> Any:
    """Return a flag's value with the bytes that the locale has no characters for read as UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return [_as_text(one) for one in value] if isinstance(value, list | tuple) else value


def _refuse_unknown(variables: Iterable[str]) -> None:
    """A misspelt variable would otherwise be left out in silence."""
    for variable in variables:
        name = variable[len(ENV_PREFIX) :].split("__")[0].lower()
        if name not in Settings.__struct_fields__:
            raise SettingsError(_unknown(f"the environment variable {variable}", name, Settings.__struct_fields__))


def _unknown(place: str, name: str, known: tuple[str, ...]) -> str:
    near = alike(name, known)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{place}: unknown setting; {hint}"


def _explain(mistake: Mistake, layer: Layer) -> str:
    place = source_of(layer, mistake.path).place(mistake.path)
    if not mistake.known:
        return f"{place}: {mistake.message}"
    return _unknown(place, str(mistake.path[-1]), mistake.known)
