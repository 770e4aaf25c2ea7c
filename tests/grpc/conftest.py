"""Tests that hold for both generations of the protocol run once for either, and so do those of both transports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bytes_server import TRANSPORTS
from tests.support.creates import memories
from tests.support.generations import speak
from tests.support.redis_server import RedisServer, running_redis


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Leave out the second generation where a test says so: what is not there needs no skipping."""
    if "spoken" in metafunc.fixturenames:
        is_of_the_first = metafunc.definition.get_closest_marker("of_the_first_generation") is not None
        metafunc.parametrize("spoken", ["v1"] if is_of_the_first else ["v1", "v2"], indirect=True)


@pytest.fixture
def spoken(request: pytest.FixtureRequest) -> Iterator[str]:
    """The generation of the protocol that the test's servers are called in."""
    speak(request.param)
    yield request.param
    speak("v1")


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What serves gRPC."""
    return str(request.param)


@pytest.fixture(params=["process", "sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The settings of a memory of each kind."""
    with memories(request.param, tmp_path) as settings:
        yield settings


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of this test's own, which it may stop."""
    with running_redis() as server:
        yield server
