"""The program of a query process: runs one query after the other for its host, within a hard limit of memory."""

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from connector_plugin_duckdb.wire import EXIT_MEMORY, Ready, decode_request, encode, is_readable, receive, send

if TYPE_CHECKING:
    from connector_plugin_duckdb.serving import Queries

_PR_SET_PDEATHSIG = 1
_ORPHANED, _DEAF = 78, 79
_LOOK_SECONDS = 0.02
# Measured at limits of 200 MB and 1 GB: sorts, joins and aggregates that keep to DuckDB's own limit take up to 1.06 times
# as much in all, beyond what there was before the query.
_FACTOR = 1.25
_SLACK = 128 * 2**20


def main() -> None:
    """Serve the host that started this process, until it closes the pipe or dies."""
    _die_with(int(sys.argv[1]))
    limits = json.loads(sys.argv[3])
    incoming, outgoing = _take_pipes()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not before the kernel was asked: importing DuckDB takes a tenth of a second, in which a host may die.
    from connector_plugin_duckdb.serving import Queries

    queries = Queries(outgoing, limits["threads"], resident)
    hard = _limit_memory(limits["memory"])
    threading.Thread(target=_listen, args=(incoming, queries, hard), daemon=True).start()
    send(outgoing, encode(Ready(hard)))
    queries.serve()


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the host; where it does not do that, the end of the pipe tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, *(ctypes.c_ulong(one) for one in (signal.SIGKILL, 0, 0, 0)))
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(_ORPHANED)


def _take_pipes() -> tuple[int, int]:
    """Move the pipes away from where DuckDB and its SQL find them: `/dev/stdout` leads nowhere."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    # The host reads its pipe only after a death: what does not fit into it is lost, and nobody waits for room.
    os.set_blocking(2, False)
    return incoming, outgoing


def _limit_memory(limit: int) -> int:
    """Set the hard limit, above what DuckDB has now, before its first query; return it.

    RLIMIT_DATA and not RLIMIT_AS: DuckDB and its threads reserve 0.7 GB of addresses that they never touch. What
    crosses it is an allocation that fails, which DuckDB tells as any other lack of memory.
    """
    hard = _status("VmData", default=resident()) + int(limit * _FACTOR) + _SLACK
    with suppress(OSError):  # where memory is short, the kernel is to take this process and not the host
        Path("/proc/self/oom_score_adj").write_text("1000")
    _soft, highest = resource.getrlimit(resource.RLIMIT_DATA)
    if highest != resource.RLIM_INFINITY:
        hard = min(hard, highest)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    return hard


def _status(name: str, default: int) -> int:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    return default


def resident() -> int:
    """Return how many bytes of memory this process has; its highest number so far where the system tells no other."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _listen(incoming: int, queries: "Queries", hard: int) -> None:
    """Hand on the host's messages; end the process when the host closes the pipe, or when there is too much memory."""

    def wait(descriptor: int) -> None:
        while not is_readable(descriptor, _LOOK_SECONDS if queries.is_busy else 3600):
            if resident() > hard:  # where the kernel does not keep to RLIMIT_DATA
                os._exit(EXIT_MEMORY)

    while True:
        try:
            request = decode_request(receive(incoming, 2**32, wait))
        except EOFError:
            os._exit(0)
        except MemoryError:
            os._exit(EXIT_MEMORY)
        except BaseException:  # noqa: BLE001 - without this thread nobody would hear the host
            traceback.print_exc()
            os._exit(_DEAF)
        queries.hand(request)
