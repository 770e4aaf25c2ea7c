"""The command that serves, and its options."""

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from connector_core.cli.options import (
    ALLOW_PLUGIN,
    BLOCK_PLUGIN,
    CONFIG,
    LOG_FORMAT,
    LOG_LEVEL,
    MODULES,
    PREFER,
    command,
    flag,
    given_settings,
    setting,
)
from connector_core.settings import Settings


@command(
    "serve",
    setting("host"),
    setting("port"),
    setting("http_port", "--http-port", "--prometheus-port"),
    setting("console", "--console/--no-console"),
    setting("recent_calls"),
    setting("gateway", metavar="metadata|tasks"),
    setting("gateway_token_file"),
    setting("gateway_hosts"),
    setting("workers", "--workers", "--worker"),
    setting("queue"),
    setting("timeout"),
    setting("grace"),
    setting("start_timeout"),
    setting("max_request_bytes"),
    setting("loop"),
    LOG_FORMAT,
    LOG_LEVEL,
    setting("traces", metavar="off|otlp"),
    MODULES,
    setting("strict", "--strict/--no-strict"),
    setting("require"),
    ALLOW_PLUGIN,
    BLOCK_PLUGIN,
    PREFER,
    flag("--reload", help="Start again when a plugin's source or the settings file changes."),
    CONFIG,
)
def serve(reload: bool, config: Path | None, **given: Any) -> int:
    """Load the installed plugins and serve their connectors until SIGTERM.

    Every option is also an environment variable, CONNECTOR_HOST__PORT for --port and so on, and a key of
    connector-host.toml: the option goes before the variable, the variable before the file. All but --reload, which is
    for authors: it needs watchfiles, pip install "connector-core[reload]"
    """
    read_settings = partial(given_settings, given, config)
    if reload:
        return _serve_and_reload(read_settings, config)
    from connector_core.cli.serve import serve_until_stopped

    hung = serve_until_stopped(read_settings())
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
