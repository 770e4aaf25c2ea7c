"""The program `connector-host`: its commands, each imported on demand, and its exit codes."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from connector_core.cli.commands import PlainCommand, PlainGroup
from connector_core.errors import PluginLoadError, SettingsError, SetupError
from connector_core.texts import alike

PROGRAM = "connector-host"

COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("serve", "serve"),
    "list": ("inspect", "list_plugins"),
    "doctor": ("inspect", "doctor"),
    "run": ("run", "run_task"),
    "get": ("run", "get_job"),
    "logs": ("run", "show_logs"),
    "delete": ("run", "delete_job"),
    "new": ("new", "new"),
    "install": ("packages.install", "install"),
    "uninstall": ("packages.uninstall", "uninstall"),
}
"""The module in this package, and the function in it that is the command, by the command's name."""


class _Commands(PlainGroup):
    """The group of all commands: each is imported, and declared to typer, on demand."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell asks how a line could go on
                return None
            near = alike(cmd_name, COMMANDS)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {cmd_name!r}.{hint}")
        module, name = COMMANDS[cmd_name]
        return _declared(cmd_name, getattr(import_module(f"connector_core.cli.{module}"), name))

    def invoke(self, ctx: Any) -> NoReturn:
        """Run a command, whose answer is the program's exit code."""
        raise typer.Exit(super().invoke(ctx) or 0)


def _declared(name: str, function: Callable[..., int]) -> Any:
    first, _, _rest = (function.__doc__ or "").partition("\n\n")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=PlainCommand, short_help=" ".join(first.split()), context_settings=_SETTINGS)(function)
    return typer.main.get_command(alone)


_SETTINGS: dict[str, Any] = {
    "help_option_names": ["--help", "-h"],
    # `--prometheus_port`, as today's command lines have it
    "token_normalize_func": lambda name: name.replace("_", "-"),
}


def _print_version(asked: bool) -> None:
    if asked:
        from connector_core.metrics import core_version

        print(f"{PROGRAM} {core_version()}")
        raise typer.Exit


def _begin(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the program's version.")
    ] = False,
) -> None:
    """Serve Flyte connectors: each an installed plugin of its own, all behind one gRPC server."""


def program() -> Any:
    """Return the whole command line as typer has it, with none of its commands imported."""
    app = typer.Typer(
        name=PROGRAM,
        cls=_Commands,
        callback=_begin,
        no_args_is_help=True,
        context_settings={"help_option_names": _SETTINGS["help_option_names"]},
        rich_markup_mode=None,  # plain help: rich costs 100 ms, and markup would take our brackets for its own
        suggest_commands=False,
    )
    return typer.main.get_command(app)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 usage, 3 a required plugin failed to load, 1 anything else."""
    try:
        program().main(arguments, prog_name=PROGRAM)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except SetupError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


def exit_code(error: SetupError) -> int:
    """Return what the program exits with when an error keeps it from its work."""
    if isinstance(error, SettingsError):
        return 2
    return 3 if isinstance(error, PluginLoadError) else 1
