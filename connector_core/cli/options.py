"""Options that several commands have, and the settings that they come to."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_core.settings import Settings, load_settings
from connector_core.tables import described

_FIELDS = described(Settings)


def setting(name: str, *flags: str, **more: Any) -> Any:
    """Return the option of a setting, whose help says what it does and its default."""
    field = _FIELDS[name]
    shown = "" if field.default in (None, (), {}, False) else f" [default: {field.default}]"
    return typer.Option(
        *(flags or (f"--{name.replace('_', '-')}",)), help=f"{field.description}{shown}", show_default=False, **more
    )


Config = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file. [CONNECTOR_HOST__CONFIG, default ./connector-host.toml]"),
]
Modules = Annotated[list[str] | None, setting("modules")]
AllowPlugin = Annotated[list[str] | None, setting("allow_plugin")]
BlockPlugin = Annotated[list[str] | None, setting("block_plugin")]
Prefer = Annotated[list[str] | None, setting("prefer", metavar="CATEGORY=PLUGIN")]
LogFormat = Annotated[str | None, setting("log_format", metavar="auto|console|json")]
LogLevel = Annotated[list[str] | None, setting("log_level", metavar="[LOGGER=]LEVEL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def plugin_settings(
    modules: list[str] | None,
    allow_plugin: list[str] | None,
    block_plugin: list[str] | None,
    prefer: list[str] | None,
    config: Path | None,
) -> Settings:
    """Return the settings of a command that loads plugins and does not serve them."""
    given = {"modules": modules, "allow_plugin": allow_plugin, "block_plugin": block_plugin, "prefer": prefer}
    return given_settings(given, config)


def given_settings(given: dict[str, Any], config: Path | None) -> Settings:
    """Return the settings, those of the command line (`None`: not given) before all others."""
    settings = load_settings(given, config)
    if settings.modules and "" not in sys.path:
        sys.path.insert(0, "")  # a module of --modules may lie in the working directory, as with python -m
    return settings
