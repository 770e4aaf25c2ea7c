"""Fixtures that tests in several folders use."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests.support.distributions import SitePackages
from tests.support.environments import ROOT, build_wheel
from tests.support.sharing import once, session_folder

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("normal", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport",
        choices=("core", "aio"),
        help="how the servers in the tests' own process serve gRPC, where a test does not choose (default: as hosts do)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if transport := config.getoption("--transport"):
        from tests.support.transports import serve_through

        serve_through(transport, pytest.MonkeyPatch())


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder that all workers of this session share."""
    return session_folder(tmp_path_factory, request.config)


@pytest.fixture(scope="session")
def core_wheel(shared: Path) -> Path:
    """The wheel of connector-core, built from this checkout."""
    (wheel,) = once(shared / "wheels", lambda folder: build_wheel(ROOT, folder)).rglob("*.whl")
    return wheel


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let captured output be sent between processes, whatever authors' exceptions put into it."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    """A folder for fake distributions, on the path for one test."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return SitePackages(folder)
