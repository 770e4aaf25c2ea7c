"""Where the hosts of a test keep what they remember of jobs, and how a host that has crashed is kept from writing there."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from redis import Redis

from connector_core.testing import RunningServer


class Kind(Protocol):
    """A kind of memory that hosts are started with, one life after another."""

    survives: bool
    """Whether the next life knows what this one has learnt."""

    has_leases: bool
    """Whether a create that a crash has cut off keeps others waiting until its lease ends."""

    def settings(self) -> Mapping[str, Any]:
        """Return the section `memory` of the settings of a host's next life."""

    async def cut_off(self, host: RunningServer) -> None:
        """Let nothing that this host does from now on reach its memory, as if its process had been killed."""

    def let_leases_end(self, seconds: float) -> None:
        """Let the claims of creates lapse that a crash has cut off, as after so many seconds."""


class InProcess:
    """Each life of a host has a memory of its own."""

    survives = False
    has_leases = False

    def settings(self) -> Mapping[str, Any]:
        return {"kind": "process"}

    async def cut_off(self, host: RunningServer) -> None:
        return None

    def let_leases_end(self, seconds: float) -> None:
        return None


class OnDisk:
    """A SQLite file that one host after another opens."""

    survives = True
    has_leases = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def settings(self) -> Mapping[str, Any]:
        return {"kind": "sqlite", "path": self._path}

    async def cut_off(self, host: RunningServer) -> None:
        await host.server.memory.close()

    def let_leases_end(self, seconds: float) -> None:
        return None


class InRedis:
    """A Redis that hosts share, empty at first; each life is a user of its own there, whom a crash ends."""

    survives = True
    has_leases = True

    def __init__(self, port: int) -> None:
        self._port = port
        self._lives = itertools.count(1)
        self._user_of: dict[str, str] = {}
        self._administer("FLUSHALL")

    def settings(self) -> Mapping[str, Any]:
        user = f"life-{next(self._lives)}"
        url = f"redis://{user}:secret@127.0.0.1:{self._port}/0"
        self._administer("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
        self._user_of[url] = user
        return {"kind": "redis", "url": url}

    async def cut_off(self, host: RunningServer) -> None:
        url = host.server.settings.memory.url.get_secret_value()
        self._administer("ACL", "DELUSER", self._user_of[url])

    def let_leases_end(self, seconds: float) -> None:
        with Redis(port=self._port) as redis:
            ending = [key for key in redis.scan_iter("connector-host/create/*") if redis.pttl(key) < seconds * 1000]
            if ending:
                redis.delete(*ending)

    def _administer(self, *words: str) -> None:
        with Redis(port=self._port) as redis:
            redis.execute_command(*words)
