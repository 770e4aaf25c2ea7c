"""The same load by h2load, to hold the project's own generator to one that everybody has; it sends one body only."""

import re
import shutil
import subprocess
import tempfile

from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.wire_load import DEADLINE, Call, LoadError


def is_installed() -> bool:
    """Whether there is an h2load (Debian: nghttp2-client)."""
    return shutil.which("h2load") is not None


def rate(address: str, call: Call, *, at_once: int, calls: int) -> float:
    """Return the calls a second over one connection.

    Raises:
        LoadError: a call failed, or the answers' bytes are not those of right answers.
    """
    with tempfile.NamedTemporaryFile() as body:
        body.write(call.body())
        body.flush()
        headers = ("content-type: application/grpc", "te: trailers", f"grpc-timeout: {DEADLINE.decode()}")
        options = [part for header in headers for part in ("-H", header)]
        command = ["h2load", "-c", "1", "-m", str(at_once), "-n", str(calls), "-d", body.name, *options]
        with on_cores(CALLING):
            done = subprocess.run(
                [*command, f"http://{address}{call.path}"], capture_output=True, text=True, check=True, timeout=300
            )
    return read(done.stdout, calls, 5 + call.answer_size)


def read(text: str, calls: int, answer_size: int) -> float:
    """Return the rate that h2load reports.

    Raises:
        LoadError: not every call got an answer of that size.
    """
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    data = re.search(r"\((\d+)\) data", text)
    found = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    if not counts or not data or not found:
        raise LoadError(f"h2load said something else than expected:\n{text}")
    if tuple(map(int, counts.groups())) != (calls, 0, 0, 0) or int(data[1]) != calls * answer_size:
        raise LoadError(f"not all calls got a right answer ({calls} of {answer_size} bytes of data):\n{text}")
    return float(found[1])
