"""A memory in Redis: it survives restarts and is shared by all replicas that use it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from connector_core.errors import MemoryUnavailableError, SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PREFIX = "connector-host/"
_CONNECTIONS = 20
_TIMEOUT = 1.0
_PAUSE = 1.0
_REPLACE = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1
"""


class RedisMemory:
    """Keeps values under keys that begin with `connector-host/`; how many is for Redis' own `maxmemory` to bound.

    Args:
        url: where Redis is.
        timeout: seconds that Redis may take to answer.
        pause: seconds for which it is left alone after it did not, so that not every call waits for so long.

    Raises:
        SettingsError: the extra `redis` is not installed, or the URL is none.
    """

    guarantees = "Job memory: Redis. It survives restarts and is shared by all replicas that use it."
    is_shared = True
    at_once = None

    def __init__(self, url: str, *, timeout: float = _TIMEOUT, pause: float = _PAUSE) -> None:
        try:
            from redis import asyncio as redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise SettingsError('memory.kind is "redis": pip install "connector-core[redis]"') from None
        try:
            self._redis: Redis = redis.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                max_connections=_CONNECTIONS,
                # Its own retries pause for seconds, which a GetTask does not have; and an `add` that was lost on the way
                # back must not be taken for another host's.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise SettingsError(f"memory.url is not a Redis URL: {error}") from None
        self._connections = asyncio.Semaphore(_CONNECTIONS)  # the client's own pool refuses instead of waiting
        self._under_way: set[asyncio.Task[Any]] = set()
        self._pause = pause
        self._left_alone_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        value = await self._reach(lambda: self._redis.get(_PREFIX + key))
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long."""
        await self._reach(lambda: self._redis.set(_PREFIX + key, value, px=_milliseconds(seconds)))

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one; Redis makes sure that one caller alone succeeds."""
        added = await self._reach(lambda: self._redis.set(_PREFIX + key, value, px=_milliseconds(seconds), nx=True))
        return bool(added)

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Keep `new` if `old` is still what is kept; Redis runs the script as one."""
        milliseconds = _milliseconds(seconds)
        return bool(await self._reach(lambda: self._redis.eval(_REPLACE, 1, _PREFIX + key, old, new, milliseconds)))

    async def remove(self, key: str) -> None:
        """Forget a key."""
        await self._reach(lambda: self._redis.delete(_PREFIX + key))

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._redis.aclose()

    async def _reach(self, command: Callable[[], Awaitable[Any]]) -> Any:
        await self._connections.acquire()
        task = asyncio.create_task(self._run(command))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        # Shielded: the client gives up the connection of a command that is cancelled, and loses some cancellations.
        return await asyncio.shield(task)

    async def _run(self, command: Callable[[], Awaitable[Any]]) -> Any:
        from redis.exceptions import TimeoutError as RedisTimeoutError

        if time.monotonic() < self._left_alone_until:
            raise MemoryUnavailableError("Redis, which keeps what is known of jobs, did not answer a moment ago")
        try:
            return await command()
        except Exception as error:  # a server that is killed midway leaves half an answer, which raises what it likes
            if isinstance(error, RedisTimeoutError):
                self._left_alone_until = time.monotonic() + self._pause
            raise MemoryUnavailableError(
                f"Redis, which keeps what is known of jobs, does not answer: {error}"
            ) from error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._connections.release()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
