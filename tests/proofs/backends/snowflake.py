"""Snowflake, faked: its SQL runs on DuckDB, behind TLS and under the name that Snowflake's own client insists on."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.proofs.backends.tunnel import make_certificates, tunnel
from tests.proofs.environments import INSIDE
from tests.support.background import in_background
from tests.support.environments import Venv, clean_environment

HOSTS = "*.snowflakecomputing.com"


@contextmanager
def snowflake(venv: Venv, folder: Path) -> Iterator[dict[str, str]]:
    """Run the server until the block ends; gives the environment with which Snowflake's client finds it.

    The client is led by what any operator has: a proxy for HTTPS, and an authority to trust. Nothing of it is changed.
    """
    certificates = make_certificates(folder, HOSTS)
    options = ["--ssl-certfile", str(certificates.certificate), "--ssl-keyfile", str(certificates.key)]
    with _server(venv, folder, *options) as port, in_background(tunnel(port)) as proxy:
        yield {
            "HTTPS_PROXY": proxy,
            "REQUESTS_CA_BUNDLE": str(certificates.authority),
        }


@contextmanager
def _server(venv: Venv, folder: Path, *options: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "fakesnow.txt").open("wb") as out:
        port: int = listener.getsockname()[1]
        command = [str(venv.python), "-m", "uvicorn", "patient_fakesnow:app", "--fd", str(listener.fileno()), *options]
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=clean_environment(PYTHONDONTWRITEBYTECODE="", PYTHONPATH=str(INSIDE)),
            cwd=folder,
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait(30)
