"""Readers of the documentation: an environment, a folder and free ports for each."""

import socket
from pathlib import Path

import pytest

from tests.support.environments import Venv, environment_for, make_model, make_venv, uv
from tests.support.markdown import Reader
from tests.support.sharing import once


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    """An environment with nothing but `pip`, which is uv's: it takes the same words and needs no network when warm."""
    venv = make_venv(tmp_path / "venv")
    pip = venv.script("pip")
    pip.write_text(f'#!/bin/sh\nexec "{uv()}" pip "$@"\n')
    pip.chmod(0o755)
    return venv


@pytest.fixture
def newcomer(venv: Venv, core_wheel: Path, tmp_path: Path) -> Reader:
    """One who has nothing yet; `pip install connector-core` finds the wheel of this checkout.

    The pages show the host's usual ports. As others may have taken those on this machine, the reader has ports of its own.
    """
    constraint = tmp_path / "this-checkout.txt"
    constraint.write_text(f"connector-core @ {core_wheel.as_uri()}\n")
    grpc_port, http_port, otlp_port = free_ports(3)
    environment = environment_for(
        venv.python,
        VIRTUAL_ENV=str(venv.path),
        UV_CONSTRAINT=str(constraint),
        CONNECTOR_HOST__PORT=grpc_port,
        CONNECTOR_HOST__HTTP_PORT=http_port,
    )
    environment["PATH"] = f"{venv.python.parent}:{environment['PATH']}"
    folder = tmp_path / "work"
    folder.mkdir()
    return Reader(folder, environment, {"8000": grpc_port, "9090": http_port, "4317": otlp_port})


@pytest.fixture(scope="session")
def equipped(shared: Path, core_wheel: Path) -> Venv:
    """An environment that has the host."""
    return Venv(once(shared / "equipped", lambda folder: make_model(folder / "venv", core_wheel)) / "venv")


@pytest.fixture
def reader(newcomer: Reader, venv: Venv, equipped: Venv) -> Reader:
    """One who has installed the host."""
    venv.take_over(equipped)
    return newcomer


def free_ports(number: int) -> list[str]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
