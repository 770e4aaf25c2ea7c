"""The page's HTML, drawn by Jinja: everything that is put into a template is escaped."""

import hashlib
import socket
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from connector_core.http.console import wording
from connector_core.http.console.graphs import HEIGHT, WIDTH, failure_graph, latency_graph, rate_graph
from connector_core.http.console.view import View
from connector_core.metrics import core_version
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
        graph_width=WIDTH,
        graph_height=HEIGHT,
    )
    return environment


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
