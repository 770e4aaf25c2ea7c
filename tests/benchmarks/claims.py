"""What the issue asks for: each claim a figure or a ratio within one run, with its target."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import Results, ratios
from tests.benchmarks.servers import F_TYPED, F_TYPED_UV, FLYTEKIT, PROTECTED, VOUCHED

Values = Callable[[Results], Sequence[float]]


@dataclass(frozen=True)
class Claim:
    """One target: what it is about, how it is found, and the limit."""

    what: str
    values: Values
    limit: float
    at_least: bool = True
    form: str = "{:.2f}"

    @property
    def target(self) -> str:
        """The limit as it is written."""
        return f"{'>=' if self.at_least else '<='} {self.form.format(self.limit)}"

    def is_reached(self, results: Results) -> bool | None:
        """Whether the median reaches the limit; `None` where nothing was measured."""
        values = self.values(results)
        if not values:
            return None
        median = statistics.median(values)
        return median >= self.limit if self.at_least else median <= self.limit


def _ratio(section: str, metric: str, row: str, below: str) -> Values:
    return lambda results: ratios(results.values(section, row, metric), results.values(section, below, metric))


def _value(section: str, metric: str, row: str) -> Values:
    return lambda results: results.values(section, row, metric)


def _more(section: str, metric: str, row: str, than: str, than_row: str) -> Values:
    """The difference within each round."""

    def difference(results: Results) -> Sequence[float]:
        pairs = zip(results.values(section, row, metric), results.values(section, than_row, than), strict=False)
        return [one - other for one, other in pairs]

    return difference


def _grown(results: Results) -> Sequence[float]:
    return ratios(results.values("memory", PROTECTED, "calls"), results.values("memory", PROTECTED, "first"))


def _of_calls() -> Iterator[Claim]:
    wanted = {  # vouched and protected to the typed floor, vouched and protected to flytekit
        "get": ("GetTask", 0.95, 0.85, 1.25, None),
        "create": ("CreateTask, inputs not asked for", 0.9, 0.8, 2.2, 2.0),
        "create_used": ("CreateTask, inputs asked for", 0.9, 0.8, 2.2, 2.0),
        "sync": ("ExecuteTaskSync", 0.9, 0.8, 2.0, 2.0),
    }
    for section, (call, vouched, protected, vouched_peer, protected_peer) in wanted.items():
        yield Claim(f"{call}: vouched / F-typed-uv", _ratio(section, "rate", VOUCHED, F_TYPED_UV), vouched)
        yield Claim(f"{call}: protected / F-typed-uv", _ratio(section, "rate", PROTECTED, F_TYPED_UV), protected)
        yield Claim(f"{call}: vouched / flytekit", _ratio(section, "rate", VOUCHED, FLYTEKIT), vouched_peer)
        if protected_peer is not None:
            yield Claim(f"{call}: protected / flytekit", _ratio(section, "rate", PROTECTED, FLYTEKIT), protected_peer)


def _of_isolation() -> Iterator[Claim]:
    blocked = "calls that block for 100 ms, 64 at once: a second"
    yield Claim(blocked, _value("blocking", "rate", PROTECTED), 600, form="{:,.0f}")
    yield Claim(
        "the same, connector-host / flytekit", _ratio("blocking", "rate", PROTECTED, FLYTEKIT), 10, form="{:.1f}"
    )
    probes = {"get": "GetTask, `async def`", "plain": "GetTask, plain `def`", "list": "ListAgents"}
    for offender, said in (("blocking", "blocking code"), ("wrongly_async", "wrongly async code")):
        for probe, called in probes.items():
            section = f"neighbours_{offender}"
            values = _more(section, f"{probe} beside", PROTECTED, f"{probe} unloaded", PROTECTED)
            yield Claim(f"p99 of {called} beside {said}: ms more than unloaded", values, 10, False, "{:.1f}")


def _of_size() -> Iterator[Claim]:
    yield Claim("cold start: connector-host / F-typed", _ratio("start", "seconds", PROTECTED, F_TYPED), 2.5, False)
    yield Claim("cold start: connector-host / flytekit", _ratio("start", "seconds", PROTECTED, FLYTEKIT), 1 / 3, False)
    for metric, when in (("idle", "idle"), ("calls", "after 40,000 calls")):
        yield Claim(
            f"memory {when}: connector-host / F-typed", _ratio("memory", metric, PROTECTED, F_TYPED), 1.45, False
        )
    yield Claim("memory after 40,000 calls / after 10,000", _grown, 1.02, False)
    for count in ("500", "2000"):
        each = _value("plugins", f"{count} each", PROTECTED)
        yield Claim(f"start-up for each of {count} plugins: ms", each, 1, False)
    yield Claim("installed: MB", _value("installed", "megabytes", PROTECTED), 60, False, "{:.0f}")
    yield Claim("installed: distributions", _value("installed", "distributions", PROTECTED), 40, False, "{:.0f}")
    for kind, said in (("unused", "inputs not asked for"), ("used", "inputs asked for"), ("get", "outputs")):
        copies = _more(f"large_{kind}", "10 copies", PROTECTED, "10 copies", F_TYPED_UV)
        yield Claim(f"10 MB, {said}: copies more than F-typed-uv", copies, 2, False)


CLAIMS = (*_of_calls(), *_of_isolation(), *_of_size())
