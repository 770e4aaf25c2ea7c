"""The program `connector-host`: its commands, its exit codes, and the options of those about the host itself."""

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from connector_core.cli import package_commands, run_commands
from connector_core.cli.options import (
    AllowPlugin,
    AsJson,
    BlockPlugin,
    Config,
    LogFormat,
    LogLevel,
    Modules,
    Prefer,
    given_settings,
    plugin_settings,
    setting,
)
from connector_core.errors import ConflictError, PluginLoadError, SettingsError, SetupError
from connector_core.settings import Settings

UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""`--prometheus_port` as today's command lines have it."""

app = typer.Typer(
    name="connector-host",
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels cut long options, and cost 50 ms
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version of connector-core.")] = False,
) -> None:
    """Serve Flyte connectors: each an installed plugin of its own, all behind one gRPC server."""
    if version:
        from connector_core.metrics import core_version

        print(core_version())
        raise typer.Exit


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 usage, 3 a required plugin failed to load, 1 anything else."""
    try:
        answer = app(arguments, standalone_mode=False)
    except SetupError as error:
        print(f"connector-host: {error}", file=sys.stderr)
        return _exit_code(error)
    except Exception as error:
        if (code := _usage_error(error)) is not None:
            return code
        raise
    return answer if isinstance(answer, int) else 0


def _exit_code(error: SetupError) -> int:
    if isinstance(error, SettingsError):
        return 2
    return 3 if isinstance(error, PluginLoadError | ConflictError) else 1


def _usage_error(error: Exception) -> int | None:
    """Show an error of the command line as typer does; return its exit code, or `None` if it is another error."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if isinstance(code, int):
        if show is not None:
            show()
        return code
    return None


@app.command(context_settings=UNDERSCORES)
def serve(
    host: Annotated[str | None, setting("host")] = None,
    port: Annotated[int | None, setting("port")] = None,
    http_port: Annotated[int | None, setting("http_port", "--http-port", "--prometheus-port")] = None,
    console: Annotated[bool | None, setting("console", "--console/--no-console")] = None,
    recent_calls: Annotated[int | None, setting("recent_calls")] = None,
    gateway: Annotated[str | None, setting("gateway", metavar="metadata|tasks")] = None,
    gateway_token_file: Annotated[Path | None, setting("gateway_token_file")] = None,
    gateway_hosts: Annotated[list[str] | None, setting("gateway_hosts")] = None,
    workers: Annotated[int | None, setting("workers", "--workers", "--worker")] = None,
    queue: Annotated[int | None, setting("queue")] = None,
    timeout: Annotated[float | None, setting("timeout")] = None,
    grace: Annotated[float | None, setting("grace")] = None,
    start_timeout: Annotated[float | None, setting("start_timeout")] = None,
    max_request_bytes: Annotated[int | None, setting("max_request_bytes")] = None,
    loop: Annotated[str | None, setting("loop")] = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    traces: Annotated[str | None, setting("traces", metavar="off|otlp")] = None,
    modules: Modules = None,
    strict: Annotated[bool | None, setting("strict", "--strict/--no-strict")] = None,
    require: Annotated[list[str] | None, setting("require")] = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a plugin's source or the settings file changes.")
    ] = False,
    config: Config = None,
) -> int:
    """Load the installed plugins and serve their connectors until SIGTERM.

    Every option is also an environment variable, CONNECTOR_HOST__PORT for --port and so on, and a key of
    connector-host.toml: the option goes before the variable, the variable before the file. All but --reload, which is
    for authors: it needs watchfiles, pip install "connector-core[reload]"
    """
    given = dict(locals())  # one name for each setting
    read_settings = partial(
        given_settings, {name: given[name] for name in Settings.__struct_fields__ if name in given}, config
    )
    if reload:
        return _serve_and_reload(read_settings, config)
    from connector_core.cli.serve import serve_until_stopped

    settings = read_settings()
    hung = serve_until_stopped(settings)
    if hung:
        # Threads that plugin code hangs in must not keep an exit waiting, nor run while the interpreter comes down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _serve_and_reload(read_settings: Callable[[], Settings], config: Path | None) -> int:
    if find_spec("watchfiles") is None:
        print('connector-host: --reload needs watchfiles: pip install "connector-core[reload]"', file=sys.stderr)
        return 1
    from connector_core.cli.reload.supervisor import supervise

    return supervise([one for one in sys.argv[1:] if one != "--reload"], read_settings, config)


@app.command("list", context_settings=UNDERSCORES)
def list_plugins(
    as_json: AsJson = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """List the plugins that a host started here would serve, with what each brings."""
    from connector_core.cli.inspect import show_list

    return show_list(plugin_settings(modules, allow_plugin, block_plugin, prefer, config), as_json=as_json)


@app.command(context_settings=UNDERSCORES)
def doctor(
    plugin: Annotated[str | None, typer.Argument(help="Only this plugin.", show_default=False)] = None,
    flytekit: Annotated[
        bool, typer.Option("--flytekit", help="Say of each installed flytekit connector how it is served.")
    ] = False,
    flyte: Annotated[
        bool, typer.Option("--flyte", help="Say of each installed connector of flyte's SDK 2 how it is served.")
    ] = False,
    as_json: AsJson = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Examine every installed plugin: what it brings, how long it takes, what fails and where, what clashes.

    The exit code is 1 when something is wrong.
    """
    from connector_core.cli.inspect import show_bridged, show_examination

    settings = plugin_settings(modules, allow_plugin, block_plugin, prefer, config)
    if flytekit or flyte:
        return show_bridged(settings, "flytekit" if flytekit else "flyte", as_json=as_json)
    return show_examination(settings, plugin, as_json=as_json)


for _name, _command in (
    ("run", run_commands.run_task),
    ("get", run_commands.get_job),
    ("logs", run_commands.show_logs),
    ("delete", run_commands.delete_job),
    ("new", package_commands.new),
    ("install", package_commands.install),
    ("uninstall", package_commands.uninstall),
):
    app.command(_name, context_settings=UNDERSCORES)(_command)
