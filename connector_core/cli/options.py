"""Options of commands, as typer reads them: those that commands share, and those that are settings."""

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from connector_core.settings import Settings, load_settings
from connector_core.tables import Field, Flag, described

FunctionT = TypeVar("FunctionT", bound=Callable[..., int])

CHOICE = ("modules", "allow_plugin", "block_plugin", "prefer", "allow_risks")
"""The settings that say which plugins are loaded, for commands that load some."""

_FIELDS = {name: field for name, field in described(Settings).items() if field.flag is not None}
ALL_FLAGS = tuple(_FIELDS)
"""Every setting that is an option of the command line."""


def path(text: str | Path | None) -> Path | None:
    """Return an option's value as a path: for `callback`, as typer gives texts."""
    return None if text is None else Path(text)


def seconds(text: str | float) -> float:
    """Return an option's value as a number of seconds that is not next to nothing: for `callback`."""
    try:
        value = float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of seconds.") from None
    if not value >= _LEAST_SECONDS:
        raise typer.BadParameter(f"{value:g} is too short: {_LEAST_SECONDS:g} seconds or more.")
    return value


_LEAST_SECONDS = 0.05

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        callback=path,
        help="The settings file. [CONNECTOR_HOST__CONFIG, default ./connector-host.toml]",
    ),
]


def takes_settings(*names: str) -> Callable[[FunctionT], FunctionT]:
    """Give a command the options of settings, and `--config`, in place of its `**given`, which `given_settings` takes.

    They stand after the command's arguments and before its keyword-only ones.
    """

    def declare(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        *own, _given = signature.parameters.values()
        first = [one for one in own if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        last = [one for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY]
        settings = [_parameter(name, _FIELDS[name]) for name in names]
        config = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)
        described = signature.replace(parameters=[*first, *settings, *last, config])
        function.__signature__ = described  # type: ignore[attr-defined] # what typer reads
        return function

    return declare


def given_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings, those of the command line (`None`: not given) before all others.

    Args:
        given: what a command got for `takes_settings`.

    Raises:
        SettingsError: a setting is unknown or has an impossible value.
    """
    flags = dict(given)
    settings = load_settings(flags, flags.pop("config", None))
    if settings.modules and "" not in sys.path:
        sys.path.insert(0, "")  # a module of --modules may lie in the working directory, as with python -m
    return settings


def _parameter(name: str, field: Field) -> inspect.Parameter:
    """Return the option of a setting: a switch, a text or a list of texts, which the settings themselves validate."""
    flag = field.flag or Flag()
    kind = _kind(field.annotation)
    dashed = name.replace("_", "-")
    default = "" if field.default in (None, (), {}, False) else f" [default: {field.default}]"
    option = typer.Option(
        *(flag.spellings or (f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}",)),
        metavar=None if kind is bool else flag.metavar or _metavar(field.annotation, kind),
        help=f"{field.description}{default}",
    )
    given = bool if kind is bool else list[str] if kind in (tuple, dict) else str
    annotation = Annotated[given | None, option]  # type: ignore[valid-type] # made at run time
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(annotation: Any, kind: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return {int: "INTEGER", float: "FLOAT", Path: "PATH"}.get(kind, "TEXT")


def _kind(annotation: Any) -> Any:
    """Return the class of what an annotation is about, the first where there are several."""
    origin = get_origin(annotation)
    if origin is None or origin in (tuple, dict, Literal):
        return origin or annotation
    if origin is Annotated:
        return _kind(annotation.__origin__)
    return _kind(get_args(annotation)[0])
