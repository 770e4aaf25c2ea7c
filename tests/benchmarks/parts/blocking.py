"""How many calls that block for 100 ms get through, 64 at a time, with `--worker 64` on each server."""

from tests.benchmarks.calling import Numbers, requests
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.servers import Running, Servers, running
from tests.benchmarks.wire_load import drive

AT_ONCE = 64
_ANSWER_SIZE = 4  # GetTaskResponse with a resource whose phase is RUNNING, in both protocols


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Measure each server, in turn."""
    figures: Figures = {}
    targets = [
        make.ours("ours", "ours_offenders"),
        make.flytekit("flytekit_noop", "flytekit_offenders"),
        make.flyte2("flyte2_noop"),
    ]
    for _ in range(min(3, effort.rounds)):
        for target in targets:
            with running(target.with_options("--worker", str(AT_ONCE))) as server:
                add(figures, target.name, {"rate": _rate(server, effort)})
    return {"blocking": figures}


def _rate(server: Running, effort: Effort) -> float:
    call = requests(server.target.python, server.target.protocol)["brief_blocking"]
    numbers = Numbers.fresh().of("brief_blocking")
    with on_cores(CALLING):
        load = drive(
            server.address,
            call.answered_by(_ANSWER_SIZE),
            numbers=numbers,
            at_once=AT_ONCE,
            seconds=max(1.0, 4 * effort.seconds),  # waves of 100 ms: a short time would cut much of the last one
        )
    return load.rate
