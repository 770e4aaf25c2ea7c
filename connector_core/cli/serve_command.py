"""The command that serves."""

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_core.cli.options import ALL_FLAGS, given_settings, takes_settings
from connector_core.settings import Settings


@takes_settings(*ALL_FLAGS)
def serve(
    *,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a plugin's source or the settings file changes.")
    ] = False,
    **given: Any,
) -> int:
    """Load the installed plugins and serve their connectors until SIGTERM.

    Every option is also an environment variable, CONNECTOR_HOST__PORT for --port and so on, and a key of
    connector-host.toml: the option goes before the variable, the variable before the file. All but --reload, which is
    for authors: it needs watchfiles, pip install "connector-core[reload]"
    """
    read_settings = partial(given_settings, given)
    if reload:
        return _serve_and_reload(read_settings, given["config"])
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
