"""The page's HTML with its small graphs, drawn by Jinja: everything that is put into a template is escaped."""

import hashlib
import socket
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from connector_core.http.console import wording
from connector_core.http.console.rows import View
from connector_core.metrics import core_version
from connector_core.observing.observer import SLOTS, Window
from connector_core.observing.recent_calls import CALLERS, FAILED, OK, TASK_OPERATIONS, Filter, KeptCall

HERE = Path(__file__).parent
_MESSAGES = 1000
PARTS = ("status", "attention", "overview", "connectors", "plugins")


class Page:
    """Draws the page, and its parts alone.

    Args:
        codes: the names of all status codes.
        scrub: takes secrets out of messages.

    Attributes:
        script_hash: of the page's script, for the Content-Security-Policy.
        style_hash: of its style.
        build: tells pages of different hosts apart that cannot take each other's parts.
    """

    def __init__(self, codes: Sequence[str], scrub: wording.Scrub) -> None:
        self._environment = _environment()
        # The same calls are drawn once a second, and looking for secrets takes longer than all else of a row.
        self._message = lru_cache(_MESSAGES)(partial(wording.foreign, scrub=scrub))
        self._codes = [code for code in codes if code != "OK"]
        script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("console.js", "console.css"))
        self._assets = {"script": Markup(script), "style": Markup(style)}  # noqa: S704 - files of this package
        self.script_hash, self.style_hash = _hash(script), _hash(style)
        self.build = _hash(core_version() + script + style + "".join(map(self._source, (*PARTS, "calls"))))[7:19]

    def parts(self, view: View) -> dict[str, str]:
        """Return the HTML of the parts that are the same for everybody."""
        return {name: self._draw(name, view=view) for name in PARTS}

    def calls(self, calls: Sequence[KeptCall], found: int, kept: int, wanted: Filter) -> str:
        """Return the HTML of the recent calls."""
        return self._draw("calls", calls=calls, found=found, kept=kept, wanted=wanted, message=self._message)

    def whole(self, view: View, parts: dict[str, str], wanted: Filter) -> str:
        """Return the whole page."""
        drawn = {name: Markup(html) for name, html in parts.items()}  # noqa: S704 - drawn by this environment
        return self._draw(
            "page",
            view=view,
            parts=drawn,
            wanted=wanted,
            build=self.build,
            codes=self._codes,
            operations=TASK_OPERATIONS,
            statuses={OK: "OK", FAILED: "Failed", CALLERS: "Caller's doing"},
            version=core_version(),
            machine=socket.gethostname(),
            **self._assets,
        )

    def _draw(self, template: str, **values: Any) -> str:
        return self._environment.get_template(f"{template}.html").render(values)

    def _source(self, template: str) -> str:
        return (HERE / "templates" / f"{template}.html").read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        w=wording,
        rate_graph=rate_graph,
        failure_graph=failure_graph,
        latency_graph=latency_graph,
        graph_width=GRAPH_WIDTH,
        graph_height=GRAPH_HEIGHT,
    )
    return environment


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


GRAPH_WIDTH = 2 * SLOTS
GRAPH_HEIGHT = 24
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
    words = f"up to {wording.duration(highest)} (p99 of 5 seconds)" if highest else "no calls in 5 minutes"
    return Graph([("line p99", _line(window.p99s, highest)), ("line p50", _line(window.p50s, highest))], words)


def _bars(values: Sequence[int], highest: int, below: Sequence[int] | None = None) -> str:
    drawn = []
    for slot, value in enumerate(values):
        if value > 0:
            foot = GRAPH_HEIGHT - GRAPH_HEIGHT * (below[slot] if below else 0) / highest
            tall = max(1.0, GRAPH_HEIGHT * value / highest)
            drawn.append(f"M{2 * slot} {foot:.1f}v-{tall:.1f}h{_BAR}v{tall:.1f}z")
    return "".join(drawn)


def _line(values: Sequence[float | None], highest: float) -> str:
    """Draw a line that breaks where nothing is known; what stands alone is a dot."""
    drawn, is_down = [], False
    for slot, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        high = GRAPH_HEIGHT - 1 - (GRAPH_HEIGHT - 2) * value / highest
        drawn.append(f"L{2 * slot + 1} {high:.1f}" if is_down else f"M{2 * slot} {high:.1f}h1")
        is_down = True
    return "".join(drawn)
