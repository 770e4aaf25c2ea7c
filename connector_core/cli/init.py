"""A tiny init: as the first process of a container the host must reap orphans and pass signals on.

The kernel gives orphaned processes to process 1. The host cannot simply wait for "any child", as it would take the exit
codes of the children that plugins wait for; so process 1 forks the host and does nothing but forward signals and reap.
"""

import os
import signal
import sys

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run_as_init() -> None:
    """Fork: the child returns and goes on as the host; this process stays, and exits as the child does."""
    # Blocked before the fork, so that a signal that comes at once is kept for the child and not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        return
    for number in _FORWARDED:
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    sys.stdout.flush()
    os._exit(_reap_until(child))


def _reap_until(child: int) -> int:
    """Reap every process until `child` has ended; return its exit code, or 128 plus the signal that ended it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
