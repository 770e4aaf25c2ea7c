"""Small graphs: the paths of SVG, as wide as a window has slots."""

from collections.abc import Sequence
from dataclasses import dataclass

from connector_core.http.console.wording import duration
from connector_core.observing.observer import SLOTS, Window

WIDTH = 2 * SLOTS
HEIGHT = 24
_BAR = 1.5


@dataclass(frozen=True, slots=True)
class Graph:
    """The paths to draw, and words for those who do not see them."""

    paths: Sequence[tuple[str, str]]
    words: str


def rate_graph(window: Window) -> Graph:
    """Return bars of calls by slot, the failed ones at the foot."""
    highest = max(window.calls, default=0)
    failed = _bars(window.failed, highest)
    rest = _bars([calls - bad for calls, bad in zip(window.calls, window.failed, strict=True)], highest, window.failed)
    words = f"{window.total:,} calls in 5 minutes, {window.total_failed:,} failed"
    return Graph([("bar", rest), ("bar bad", failed)], words)


def failure_graph(window: Window) -> Graph:
    """Return bars of the calls that failed, by slot."""
    failed = _bars(window.failed, max(window.failed, default=0))
    return Graph([("bar bad", failed)], f"{window.total_failed:,} calls failed in 5 minutes")


def latency_graph(window: Window) -> Graph:
    """Return lines of the median and of p99 by slot."""
    highest = max((value for value in window.p99s if value is not None), default=0.0)
    words = f"up to {duration(highest)} (p99 of 5 seconds)" if highest else "no calls in 5 minutes"
    return Graph([("line p99", _line(window.p99s, highest)), ("line p50", _line(window.p50s, highest))], words)


def _bars(values: Sequence[int], highest: int, below: Sequence[int] | None = None) -> str:
    drawn = []
    for slot, value in enumerate(values):
        if value > 0:
            foot = HEIGHT - HEIGHT * (below[slot] if below else 0) / highest
            tall = max(1.0, HEIGHT * value / highest)
            drawn.append(f"M{2 * slot} {foot:.1f}v-{tall:.1f}h{_BAR}v{tall:.1f}z")
    return "".join(drawn)


def _line(values: Sequence[float | None], highest: float) -> str:
    """Draw a line that breaks where nothing is known; what stands alone is a dot."""
    drawn, is_down = [], False
    for slot, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        high = HEIGHT - 1 - (HEIGHT - 2) * value / highest
        drawn.append(f"L{2 * slot + 1} {high:.1f}" if is_down else f"M{2 * slot} {high:.1f}h1")
        is_down = True
    return "".join(drawn)
