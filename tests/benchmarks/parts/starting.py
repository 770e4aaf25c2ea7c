"""Cold start until the health service says SERVING, and resident memory then and after many calls."""

import contextlib
import itertools
from collections.abc import Iterator
from urllib.request import urlopen

from tests.benchmarks import servers
from tests.benchmarks.calling import Numbers, checked
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.servers import Running, Servers, Target, running
from tests.benchmarks.wire_load import Call, drive

CALLS = 40_000
JOBS = 10_000
_FIRST = 10_000


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Start each server so many times, in turn; call some of them for their memory."""
    starts: Figures = {}
    targets = [
        make.floor(servers.F_TYPED),
        make.ours(bare=False),
        make.flytekit("flytekit_noop"),
        make.flyte2("flyte2_noop"),
    ]
    for number in range(1 + effort.rounds * (1 if effort.is_quick else 2)):
        for target in targets:
            with running(target) as server:
                if number:  # the first round fills the caches
                    add(starts, target.name, {"seconds": server.seconds_to_serving})
    called = [
        make.floor(servers.F_TYPED),
        make.ours("ours", "ours_calls", bare=False),
        make.flytekit("flytekit_noop", "flytekit_calls"),
        make.flyte2("flyte2_noop"),
    ]
    memory: Figures = {}
    for _ in range(min(2, effort.rounds)):
        for target in called:
            add(memory, target.name, _memory(target, effort))
    return {"start": starts, "memory": memory}


def _memory(target: Target, effort: Effort) -> dict[str, float]:
    scale = 10 if effort.is_quick else 1
    with running(target) as server:
        figures = {"idle": server.resident_megabytes()}
        numbers = Numbers.fresh()
        call = checked(server)["get"]
        _drive(server, call, numbers.of("get"), _FIRST // scale)
        figures["first"] = server.resident_megabytes()
        _drive(server, call, numbers.of("get"), (CALLS - _FIRST) // scale)
        figures["calls"] = server.resident_megabytes()
        _drive(server, call, itertools.count(1_000_000), JOBS // scale)
        figures["jobs"] = server.resident_megabytes()
        with contextlib.suppress(
            OSError
        ):  # the floor has none; this host imports what serves HTTP for its first caller
            urlopen(f"http://{server.http_address}/metrics", timeout=60).close()
            figures["scraped"] = server.resident_megabytes()
    return figures


def _drive(server: Running, call: Call, numbers: Iterator[int], calls: int) -> None:
    with on_cores(CALLING):
        drive(server.address, call, numbers=numbers, calls=calls)
