"""The commands and their options."""

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_core.errors import ConflictError, PluginLoadError, SettingsError, SetupError
from connector_core.settings import Settings, load_settings

app = typer.Typer(
    name="connector-host",
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels cut long options, and cost 50 ms
    context_settings={"help_option_names": ["-h", "--help"]},
)

UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""`--prometheus_port` as today's command lines have it."""


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


def _setting(name: str, *flags: str, **more: Any) -> Any:
    """Return the option of a setting, whose help says what it does and its default."""
    field = Settings.model_fields[name]
    default = field.get_default()
    shown = "" if default in (None, (), {}, False) else f" [default: {default}]"
    return typer.Option(
        *(flags or (f"--{name.replace('_', '-')}",)), help=f"{field.description}{shown}", show_default=False, **more
    )


Config = Annotated[
    Path | None,
    typer.Option("--config", help="The settings file. [CONNECTOR_HOST__CONFIG, default ./connector-host.toml]"),
]
Modules = Annotated[list[str] | None, _setting("modules")]
AllowPlugin = Annotated[list[str] | None, _setting("allow_plugin")]
BlockPlugin = Annotated[list[str] | None, _setting("block_plugin")]
Prefer = Annotated[list[str] | None, _setting("prefer", metavar="CATEGORY=PLUGIN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command(context_settings=UNDERSCORES)
def serve(
    host: Annotated[str | None, _setting("host")] = None,
    port: Annotated[int | None, _setting("port")] = None,
    http_port: Annotated[int | None, _setting("http_port", "--http-port", "--prometheus-port")] = None,
    gateway: Annotated[str | None, _setting("gateway", metavar="metadata|tasks")] = None,
    gateway_token_file: Annotated[Path | None, _setting("gateway_token_file")] = None,
    gateway_hosts: Annotated[list[str] | None, _setting("gateway_hosts")] = None,
    workers: Annotated[int | None, _setting("workers", "--workers", "--worker")] = None,
    queue: Annotated[int | None, _setting("queue")] = None,
    timeout: Annotated[float | None, _setting("timeout")] = None,
    grace: Annotated[float | None, _setting("grace")] = None,
    start_timeout: Annotated[float | None, _setting("start_timeout")] = None,
    max_request_bytes: Annotated[int | None, _setting("max_request_bytes")] = None,
    loop: Annotated[str | None, _setting("loop")] = None,
    modules: Modules = None,
    strict: Annotated[bool | None, _setting("strict", "--strict/--no-strict")] = None,
    require: Annotated[list[str] | None, _setting("require")] = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Load the installed plugins and serve their connectors until SIGTERM.

    Every option is also an environment variable, CONNECTOR_HOST__PORT for --port and so on, and a key of
    connector-host.toml: the option goes before the variable, the variable before the file.
    """
    given = dict(locals())  # one name for each setting
    from connector_core.cli.serve import serve_until_stopped

    settings = _load({name: given[name] for name in Settings.model_fields if name in given}, config)
    _log_to_stderr()
    hung = serve_until_stopped(settings)
    if hung:
        # Threads that plugin code hangs in must not keep an exit waiting, nor run while the interpreter comes down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


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

    return show_list(_plugin_settings(modules, allow_plugin, block_plugin, prefer, config), as_json=as_json)


@app.command(context_settings=UNDERSCORES)
def doctor(
    plugin: Annotated[str | None, typer.Argument(help="Only this plugin.", show_default=False)] = None,
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
    from connector_core.cli.inspect import show_examination

    settings = _plugin_settings(modules, allow_plugin, block_plugin, prefer, config)
    return show_examination(settings, plugin, as_json=as_json)


Handle = Annotated[str, typer.Argument(help="What `run --detach` printed.", show_default=False)]
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="A host that serves; else the plugins installed here are used.", show_default=False
    ),
]
HandlesEndpoint = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="HOST:PORT", help="A host, if not the one of the handle.", show_default=False),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print the log of the plugins used here, and no live view.")]
Interval = Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the job, at the most.")]


@app.command("run", context_settings=UNDERSCORES)
def run_task(
    task_type: Annotated[
        str | None, typer.Argument(help="The task type: NAME, or NAME@VERSION.", show_default=False)
    ] = None,
    argv: Annotated[
        list[str] | None, typer.Argument(help="A container's command, after `--`.", show_default=False)
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="An input: JSON where it parses, else text; NAME=@FILE reads it from a file.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PLACE", help="An input that is a file or folder: a path or URI.", show_default=False
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="A file of inputs: a JSON object, or a LiteralMap (.pb).", show_default=False),
    ] = None,
    sql: Annotated[
        str | None, typer.Option(help="The task's SQL; @FILE reads it from a file.", show_default=False)
    ] = None,
    custom: Annotated[
        str | None, typer.Option(help="The task's `custom`, a JSON object; @FILE reads it.", show_default=False)
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            help="A task as flytekit serialises it: TaskTemplate or TaskSpec, .pb or .json.", show_default=False
        ),
    ] = None,
    output_prefix: Annotated[
        str | None,
        typer.Option(help="The URI or folder under which large outputs are written. [default: a new temporary folder]"),
    ] = None,
    endpoint: Endpoint = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the job, print its handle and leave it alone.")
    ] = False,
    interval: Interval = 1.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Run a task without a Flyte cluster, on the plugins installed here or on a host that serves.

    For example: connector-host run sleep --input seconds=3, or connector-host run process -- /bin/echo hello

    What the task gives goes to stdout, everything else to stderr. Ctrl-C asks the connector to delete the job and waits
    for that; a second one gives up waiting. The exit code is 0 only for SUCCEEDED; 1 for any other end, 2 for what
    cannot be asked, 130 after Ctrl-C.
    """
    from connector_core.cli import run

    order = run.Order(task_type, argv or (), input_ or (), file or (), inputs, sql, custom, template)
    settings = partial(_plugin_settings, modules, allow_plugin, block_plugin, prefer, config)
    manner = run.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return run.run_task(order, manner, output_prefix=output_prefix, detach=detach)


@app.command("get", context_settings=UNDERSCORES)
def get_job(
    handle: Handle,
    endpoint: HandlesEndpoint = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the job to its end, as `run` does.")] = False,
    interval: Interval = 1.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Show how a job of `run --detach` is doing, and its outputs when it is over.

    The exit code is 0 where that could be found out; with --wait, it is that of `run`.
    """
    from connector_core.cli import run

    settings = partial(_plugin_settings, modules, allow_plugin, block_plugin, prefer, config)
    manner = run.Manner(endpoint, settings, as_json=as_json, verbose=verbose, interval=interval)
    return run.show_job(handle, manner, wait=wait)


@app.command("logs", context_settings=UNDERSCORES)
def show_logs(
    handle: Handle,
    endpoint: HandlesEndpoint = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job is over.")] = False,
    interval: Interval = 1.0,
    verbose: Verbose = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Print the log of a job of `run --detach`, where its connector has logs."""
    from connector_core.cli import run

    settings = partial(_plugin_settings, modules, allow_plugin, block_plugin, prefer, config)
    return run.show_logs(handle, run.Manner(endpoint, settings, verbose=verbose, interval=interval), follow=follow)


@app.command("delete", context_settings=UNDERSCORES)
def delete_job(
    handle: Handle,
    endpoint: HandlesEndpoint = None,
    verbose: Verbose = False,
    modules: Modules = None,
    allow_plugin: AllowPlugin = None,
    block_plugin: BlockPlugin = None,
    prefer: Prefer = None,
    config: Config = None,
) -> int:
    """Ask the connector to delete a job of `run --detach`, and wait until it says how that went.

    A job that is over already, or gone, is no error.
    """
    from connector_core.cli import run

    settings = partial(_plugin_settings, modules, allow_plugin, block_plugin, prefer, config)
    return run.delete_job(handle, run.Manner(endpoint, settings, verbose=verbose))


@app.command(context_settings=UNDERSCORES)
def new(
    name: Annotated[
        str, typer.Argument(help="The plugin's name, such as 'warehouse': the package is connector-plugin-NAME.")
    ],
    task_type: Annotated[
        str | None, typer.Option(help="The task type that it serves. [default: the name]", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="async|sync",
            help="'async' for jobs that go on by themselves, 'sync' for answers at once. [default: async]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder to make the package's folder in.")] = Path(),
) -> int:
    """Write a new plugin package that works from the start, with tests.

    At a terminal, what is not given is asked for. Needs cookiecutter: pip install "connector-core[new]"
    """
    from connector_core.cli.new import write_plugin

    return write_plugin(name, task_type, kind, output)


def _plugin_settings(
    modules: list[str] | None,
    allow_plugin: list[str] | None,
    block_plugin: list[str] | None,
    prefer: list[str] | None,
    config: Path | None,
) -> Settings:
    given = {"modules": modules, "allow_plugin": allow_plugin, "block_plugin": block_plugin, "prefer": prefer}
    return _load(given, config)


def _load(given: dict[str, Any], config: Path | None) -> Settings:
    settings = load_settings(given, config)
    if settings.modules and "" not in sys.path:
        sys.path.insert(0, "")  # a module of --modules may lie in the working directory, as with python -m
    return settings


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
