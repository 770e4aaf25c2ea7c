"""A memory in Redis: it survives restarts and is shared by all replicas that use it."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from connector_core.errors import MemoryUnavailableError, SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PREFIX = "connector-host/"
_TIMEOUT = 1.0


class RedisMemory:
    """Keeps values under keys that begin with `connector-host/`; how many is for Redis' own `maxmemory` to bound.

    Raises:
        SettingsError: the extra `redis` is not installed, or the URL is none.
    """

    guarantees = (
        "what is remembered of jobs is in Redis: it survives restarts and is shared by all replicas that use it"
    )
    is_shared = True

    def __init__(self, url: str) -> None:
        try:
            from redis import asyncio as redis
        except ImportError:
            raise SettingsError('memory.kind is "redis": pip install "connector-core[redis]"') from None
        try:
            self._redis: Redis = redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
        except ValueError as error:
            raise SettingsError(f"memory.url is no Redis URL: {error}") from None

    async def get(self, key: str) -> bytes | None:
        """Return what is kept, if it is."""
        value = await self._reach(self._redis.get(_PREFIX + key))
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long."""
        await self._reach(self._redis.set(_PREFIX + key, value, px=_milliseconds(seconds)))

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless there is one; Redis makes sure that one caller alone succeeds."""
        return bool(await self._reach(self._redis.set(_PREFIX + key, value, px=_milliseconds(seconds), nx=True)))

    async def remove(self, key: str) -> None:
        """Forget a key."""
        await self._reach(self._redis.delete(_PREFIX + key))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _reach(self, command: Awaitable[Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            return await command
        except (RedisError, OSError) as error:
            raise MemoryUnavailableError(
                f"Redis, which keeps what is known of jobs, does not answer: {error}"
            ) from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
