"""Calls a second and CPU time a call, of servers that do nothing else, beside the floors of the transport."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tests.benchmarks import h2load, servers
from tests.benchmarks.calling import Numbers, checked
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.servers import Running, Servers, Target, running
from tests.benchmarks.wire_load import Call, Load, LoadError, drive

AT_ONCE = 32
_MOST_BUSY = 0.8
CALLS = ("get", "create", "create_used", "sync")
COMPARED = (servers.F_UV, servers.F_TYPED_UV, servers.FLYTEKIT)
LOGGED = "connector-host, each call logged"
QUIET = {"CONNECTOR_HOST__LOG_LEVEL": "connector_core.calls=warning"}
"""Calls that went well are not logged, as they are not by the peers."""


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Measure each call on each server, in turn, with all of them started anew in each round."""
    figures: dict[str, Figures] = {name: {} for name in (*CALLS, "generator")}
    targets = _targets(make)
    for number in range(effort.rounds):
        with ExitStack() as stack:
            measured = [_Measured(stack.enter_context(running(target))) for target in _rotated(targets, number)]
            for one in measured:
                one.warm_up(effort)
            for call in CALLS:
                for one in measured:
                    if call in one.calls:
                        add(figures[call], one.name, one.load(call, effort))
            if h2load.is_installed():
                for one in measured:
                    if one.name in COMPARED:
                        add(figures["generator"], one.name, one.compare(effort))
    return figures


def _targets(make: Servers) -> Sequence[Target]:
    floors = [make.floor(name) for name in servers.FLOORS]
    ours = make.ours("ours", "ours_calls")
    hosts = [make.vouched("ours", "ours_calls").with_settings(**QUIET), ours.with_settings(**QUIET)]
    logging = replace(ours, name=LOGGED).with_settings(CONNECTOR_HOST__LOG_LEVEL="connector_core.calls=debug")
    peers = [make.flytekit("flytekit_noop", "flytekit_calls"), make.flyte2("flyte2_noop")]
    return [*floors, *hosts, logging, *peers]


def _rotated(targets: Sequence[Target], number: int) -> Sequence[Target]:
    """Begin with another one in each round."""
    start = number % len(targets)
    return [*targets[start:], *targets[:start]]


class _Measured:
    """A server that is loaded in turn with others."""

    def __init__(self, server: Running) -> None:
        self.name = server.target.name
        self.calls: dict[str, Call] = checked(server)
        self._server = server
        self._numbers = Numbers.fresh()

    def warm_up(self, effort: Effort) -> None:
        for name in CALLS:
            if name in self.calls:
                self._drive(name, effort.seconds / 4)

    def load(self, name: str, effort: Effort) -> dict[str, float]:
        before = self._server.cpu_seconds()
        load = self._drive(name, effort.seconds)
        cpu = self._server.cpu_seconds() - before
        if load.busy > _MOST_BUSY:
            raise LoadError(
                f"the load on {self.name} took {load.busy:.0%} of a core itself, and would be what is measured"
            )
        return {
            "rate": load.rate,
            "cpu": cpu / load.calls * 1e6,
            "p50": load.percentile(0.5) * 1e3,
            "p99": load.percentile(0.99) * 1e3,
            "busy": load.busy * 100,
        }

    def compare(self, effort: Effort) -> dict[str, float]:
        own = self._drive("get", effort.seconds).rate
        calls = int(own * effort.seconds)
        theirs = h2load.rate(self._server.address, self.calls["get"], at_once=AT_ONCE, calls=calls)
        return {"own": own, "h2load": theirs, "ratio": own / theirs}

    def _drive(self, name: str, seconds: float) -> Load:
        with on_cores(CALLING):
            return drive(
                self._server.address,
                self.calls[name],
                numbers=self._numbers.of(name),
                at_once=AT_ONCE,
                seconds=seconds,
            )
