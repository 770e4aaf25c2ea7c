"""How commands are declared: their arguments and options, and the settings that options come to."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import click

from connector_core.settings import Settings, load_settings
from connector_core.tables import described

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
Parameter = Callable[[Any], Any]

_FIELDS = described(Settings)
_UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""`--prometheus_port` as today's command lines have it."""


def command(name: str, *parameters: Parameter) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function that returns its exit code; its docstring is the command's help.

    The function gets arguments and options by name: `None`, false or an empty tuple where they were not given.
    """

    def declare(function: Callable[..., int]) -> click.Command:
        for parameter in reversed(parameters):
            function = parameter(function)
        first, _, _rest = (function.__doc__ or "").partition("\n\n")
        return click.command(name, short_help=" ".join(first.split()), context_settings=_UNDERSCORES)(function)

    return declare


def argument(name: str, help: str, **more: Any) -> Parameter:  # noqa: A002 - click's word
    """Return an argument; required, unless `more` says otherwise."""
    return click.argument(name, help=help, **more)


def option(*flags: str, help: str, **more: Any) -> Parameter:  # noqa: A002 - click's word
    """Return an option."""
    return click.option(*flags, help=help, **more)


def flag(*flags: str, help: str) -> Parameter:  # noqa: A002 - click's word
    """Return an option without a value."""
    return click.option(*flags, is_flag=True, help=help)


def setting(name: str, *flags: str, **more: Any) -> Parameter:
    """Return the option of a setting, whose help says what it does and its default; the settings themselves validate it."""
    field = _FIELDS[name]
    shown = "" if field.default in (None, (), {}, False) else f" [default: {field.default}]"
    spelt = flags or (f"--{name.replace('_', '-')}",)
    kind = _kind(field.annotation)
    if kind is bool:
        return option(*spelt, name, default=None, help=f"{field.description}{shown}")
    more |= {"multiple": True} if kind in (tuple, dict) else {"type": _TYPES.get(kind, str)}
    return option(*spelt, name, help=f"{field.description}{shown}", **more)


def path(**more: Any) -> Any:
    """Return the type of options that are paths."""
    return click.Path(path_type=Path, **more)


_TYPES: Mapping[Any, Any] = {int: int, float: float, Path: path()}


def _kind(annotation: Any) -> Any:
    """Return the class of what an annotation is about, the first where there are several."""
    origin = get_origin(annotation)
    if origin is None or origin in (tuple, dict):
        return origin or annotation
    if origin is Annotated:
        return _kind(annotation.__origin__)
    return _kind(get_args(annotation)[0])


CONFIG = option(
    "--config", type=path(), help="The settings file. [CONNECTOR_HOST__CONFIG, default ./connector-host.toml]"
)
MODULES = setting("modules")
ALLOW_PLUGIN = setting("allow_plugin")
BLOCK_PLUGIN = setting("block_plugin")
PREFER = setting("prefer", metavar="CATEGORY=PLUGIN")
LOG_FORMAT = setting("log_format", metavar="auto|console|json")
LOG_LEVEL = setting("log_level", metavar="[LOGGER=]LEVEL")
AS_JSON = flag("--json", "as_json", help="Print JSON for programs.")
CHOICE = (MODULES, ALLOW_PLUGIN, BLOCK_PLUGIN, PREFER, CONFIG)
"""Which plugins are loaded, for commands that load some."""


def plugin_settings(
    modules: Sequence[str],
    allow_plugin: Sequence[str],
    block_plugin: Sequence[str],
    prefer: Sequence[str],
    config: Path | None,
) -> Settings:
    """Return the settings of a command that loads plugins and does not serve them."""
    given = {"modules": modules, "allow_plugin": allow_plugin, "block_plugin": block_plugin, "prefer": prefer}
    return given_settings(given, config)


def given_settings(given: Mapping[str, Any], config: Path | None) -> Settings:
    """Return the settings, those of the command line (`None`, or an empty sequence: not given) before all others."""
    settings = load_settings(given, config)
    if settings.modules and "" not in sys.path:
        sys.path.insert(0, "")  # a module of --modules may lie in the working directory, as with python -m
    return settings
