"""The command line: parse and delegate."""

import gc
import os
import sys


def main() -> None:
    """Run `connector-host`, with an init in front of it where it is the first process of a container."""
    gc.disable()  # imports make next to no garbage, and looking for it is a tenth of the start; `serve` enables it again
    if os.getpid() == 1:
        from connector_core.cli.init import run_as_init

        run_as_init()
    from connector_core.cli.app import run

    sys.exit(run())
