"""The program `connector-host`: its commands, each imported when it is asked for, and its exit codes."""

import sys
from collections.abc import Mapping
from importlib import import_module

import click

from connector_core.errors import ConflictError, PluginLoadError, SettingsError, SetupError
from connector_core.likeness import alike

COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("serve_command", "serve"),
    "list": ("inspect_commands", "list_plugins"),
    "doctor": ("inspect_commands", "doctor"),
    "run": ("run_commands", "run_task"),
    "get": ("run_commands", "get_job"),
    "logs": ("run_commands", "show_logs"),
    "delete": ("run_commands", "delete_job"),
    "new": ("package_commands", "new"),
    "install": ("package_commands", "install"),
    "uninstall": ("package_commands", "uninstall"),
}
"""The module in this package, and what the command is called in it, by the command's name."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            near = alike(cmd_name, COMMANDS)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {cmd_name!r}.{hint}")
        module, name = COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"connector_core.cli.{module}"), name)
        return found


@click.group(
    "connector-host",
    cls=_Commands,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, help="Print the version of connector-core.")
@click.pass_context
def app(ctx: click.Context, version: bool) -> None:
    """Serve Flyte connectors: each an installed plugin of its own, all behind one gRPC server."""
    if version:
        from connector_core.metrics import core_version

        print(core_version())
        ctx.exit()


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 usage, 3 a required plugin failed to load, 1 anything else."""
    try:
        answer = app.main(arguments, prog_name="connector-host", standalone_mode=False)
    except SetupError as error:
        print(f"connector-host: {error}", file=sys.stderr)
        return _exit_code(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return answer if isinstance(answer, int) else 0


def _exit_code(error: SetupError) -> int:
    if isinstance(error, SettingsError):
        return 2
    return 3 if isinstance(error, PluginLoadError | ConflictError) else 1
