"""Deletions that never succeed: given up after a while, since an engine of the 2.x line repeats them for ever.

Its TaskAction cannot be removed until DeleteTask is answered OK (docs/reference/engines.md).
"""

import hashlib
import logging
import time
from collections.abc import Callable

from connector_core.errors import ConnectorError, InvalidResourceMetaError, MemoryUnavailableError
from connector_core.jobs.memory import Memory

_log = logging.getLogger(__name__)

_REMEMBERED = 86_400.0
"""Seconds for which a first failure is remembered beyond the patience."""


class Deletes:
    """The time for which jobs have resisted their deletion.

    Args:
        memory: keeps when a job's first DeleteTask failed, also over a restart and between replicas that share one.
        patience: seconds from then on, after which a failing deletion is given up.
        clock: the wall clock, in seconds.
    """

    def __init__(self, memory: Memory, patience: float, clock: Callable[[], float] = time.time) -> None:
        self._memory = memory
        self._patience = patience
        self._clock = clock

    async def is_given_up(self, task_type: str, resource_meta: bytes, error: ConnectorError) -> bool:
        """Return whether a deletion that has failed is to be answered as if it had not.

        A resource meta that cannot be read describes no job, now or later, and is given up at once.
        """
        if isinstance(error, InvalidResourceMetaError):
            return True
        key, now = _key(task_type, resource_meta), self._clock()
        try:
            if await self._memory.add(key, repr(now).encode(), self._patience + _REMEMBERED):
                return self._patience <= 0
            first = await self._memory.get(key)
        except MemoryUnavailableError as unavailable:
            _log.warning("lookup of a job's first failed deletion failed: %s", unavailable)
            return False
        return now - _seconds(first, now) >= self._patience


def _seconds(data: bytes | None, now: float) -> float:
    """Read when a job's first DeleteTask failed; what cannot be read was just now."""
    try:
        return now if data is None else float(data)
    except ValueError:
        return now


def _key(task_type: str, resource_meta: bytes) -> str:
    name = task_type.encode(errors="replace")
    return f"delete/{hashlib.sha256(len(name).to_bytes(4, 'big') + name + resource_meta).hexdigest()}"
