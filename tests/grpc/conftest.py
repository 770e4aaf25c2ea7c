"""Tests that hold for both generations of the protocol run once for either, and so do those of both transports."""

from collections.abc import Iterator

import pytest

from tests.support.bytes_server import TRANSPORTS
from tests.support.generations import speak


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
