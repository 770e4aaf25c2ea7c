"""What the console counts: the last five minutes, in steps of five seconds."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from connector_core.http.console.page import latency_graph, rate_graph
from connector_core.metrics import NO_TASK_TYPE, UNKNOWN_TASK_TYPE, Metrics
from connector_core.metrics.tallies import TallyKey
from connector_core.observing.observer import (
    NO_CONNECTOR,
    SLOT_SECONDS,
    SLOTS,
    WINDOW_SECONDS,
    Observer,
    SlottedCounts,
    Window,
)

NOW = 1_700_000_000.0


class Watched:
    """Calls that are counted, and looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.metrics = Metrics()
        self.observer = Observer(self.metrics, asyncio.Event())
        self._clock = monkeypatch

    def calls(
        self,
        *seconds: float,
        code: str = "OK",
        at: float = NOW,
        of: TallyKey | None = None,
        is_callers_doing: bool = False,
    ) -> None:
        """Have calls end that took so long."""
        tally = self.metrics.requests.of(of or TallyKey("job", "create", "acme", "Jobs"))
        for one in seconds or (0.01,):
            tally.in_flight += 1
            tally.ended(code, one, is_callers_doing)
        self._clock.setattr("time.time", lambda: at)
        self.observer.look()

    def until(self, now: float = NOW) -> Window:
        return self.observer.until(now)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_calls_and_failures_stand_in_the_slot_in_which_they_ended(watched: Watched) -> None:
    watched.calls(at=NOW - 2 * SLOT_SECONDS)
    watched.calls()
    watched.calls(code="INTERNAL")
    window = watched.until()
    assert (window.calls[-1], window.failed[-1]) == (2, 1)
    assert (window.calls[-3], window.failed[-3]) == (1, 0)
    assert (window.total, window.total_failed) == (3, 1)
    assert window.per_second == 3 / WINDOW_SECONDS


def test_failures_by_the_callers_doing_are_counted_apart(watched: Watched) -> None:
    watched.calls(code="INVALID_ARGUMENT", is_callers_doing=True)
    watched.calls(code="INTERNAL")
    watched.calls(0.01, 0.01, code="CANCELLED", is_callers_doing=True)
    window = watched.until()
    assert (window.total, window.total_failed, window.total_callers) == (4, 1, 3)


def test_calls_are_counted_once_however_often_one_looks(watched: Watched) -> None:
    watched.calls()
    watched.observer.look()
    watched.observer.look()
    assert watched.until().total == 1


def test_what_is_older_than_the_window_no_longer_counts(watched: Watched) -> None:
    watched.calls(0.01, 0.01)
    assert watched.until(NOW + WINDOW_SECONDS - SLOT_SECONDS).total == 2
    assert watched.until(NOW + WINDOW_SECONDS).total == 0


def test_a_slot_that_comes_round_again_begins_at_nothing(watched: Watched) -> None:
    watched.calls(code="INTERNAL")
    watched.calls(at=NOW + WINDOW_SECONDS)
    window = watched.until(NOW + WINDOW_SECONDS)
    assert (window.total, window.total_failed) == (1, 0)


def test_a_clock_that_was_set_back_loses_calls_and_mixes_none(watched: Watched) -> None:
    watched.calls(at=NOW + WINDOW_SECONDS)
    watched.calls(at=NOW)
    assert watched.until(NOW + WINDOW_SECONDS).total == 1


@pytest.mark.parametrize("scale", [0.0001, 0.004, 0.3, 25.0])
def test_percentiles_are_right_to_five_percent(watched: Watched, scale: float) -> None:
    durations = [scale * (1 + number / 100) for number in range(1000)]
    watched.calls(*durations)
    window = watched.until()
    assert window.p50 is not None
    assert window.p99 is not None
    assert math.isclose(window.p50, durations[499], rel_tol=0.06)
    assert math.isclose(window.p99, durations[989], rel_tol=0.06)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_a_duration_beyond_all_bounds_counts_all_the_same(watched: Watched, seconds: float) -> None:
    watched.calls(seconds)
    assert watched.until().p99 is not None


def test_one_slow_call_in_ten_shows_in_p99_and_not_in_p50(watched: Watched) -> None:
    watched.calls(*[0.01] * 9, 5)
    window = watched.until()
    assert window.p50 == pytest.approx(0.01, rel=0.06)
    assert window.p99 == pytest.approx(5, rel=0.06)


def test_following_a_log_counts_as_a_call_and_not_as_a_slow_one(watched: Watched) -> None:
    watched.calls(3600, of=TallyKey("job", "get_logs", "acme", "Jobs"))
    window = watched.until()
    assert window.total == 1
    assert window.p99 is None


def test_the_whole_is_all_connectors_and_calls_that_found_none(watched: Watched) -> None:
    watched.calls(0.01, of=TallyKey("job", "get", "acme", "Jobs"))
    watched.calls(0.01, 0.01, of=TallyKey("job", "get", "acme", "Others"))
    watched.calls(code="NOT_FOUND", of=TallyKey(UNKNOWN_TASK_TYPE, "get"))
    by_connector = {key: figures.until(NOW).total for key, figures in watched.observer.by_connector.items()}
    assert by_connector == {("acme", "Jobs"): 1, ("acme", "Others"): 2, NO_CONNECTOR: 1}
    assert watched.until().total == 4
    assert watched.until().p50 == pytest.approx(0.01, rel=0.06)


def test_the_metadata_service_is_no_task_and_listing_is_noted(watched: Watched) -> None:
    listed = []
    for code in ("INTERNAL", "OK"):
        watched.calls(code=code, of=TallyKey(NO_TASK_TYPE, "list_agents"))
        listed.append(watched.observer.listed_at)
    assert listed == [None, NOW]
    assert watched.until().total == 0


def test_no_call_is_no_duration() -> None:
    window = SlottedCounts().until(NOW)
    assert (window.p50, window.p99, set(window.p99s)) == (None, None, {None})
    assert len(window.calls) == SLOTS


# Graphs


def counted(*calls: tuple[float, int], durations: Sequence[float] = ()) -> Window:
    """Return a window with calls, of which so many failed, so many seconds ago."""
    counts = SlottedCounts()
    for ago, failed in reversed(calls):
        counts.add(NOW - ago, 1, failed, 0, dict.fromkeys(durations, 1))
    return counts.until(NOW)


def test_a_graph_says_in_words_what_it_draws() -> None:
    window = counted((0, 0), (0, 1), durations=[0.499])
    assert rate_graph(window).words == "2 calls in 5 minutes, 1 failed"
    assert latency_graph(window).words.startswith("up to 499 ms")


def test_failed_calls_stand_below_the_others() -> None:
    window = counted((0, 0), (0, 0), (0, 0), (0, 1))
    (_kind, rest), (_bad, failed) = rate_graph(window).paths
    assert failed == "M118 24.0v-6.0h1.5v6.0z"
    assert rest == "M118 18.0v-18.0h1.5v18.0z"


def test_a_line_breaks_where_nothing_was_called() -> None:
    window = counted(*((ago * SLOT_SECONDS, 0) for ago in (0, 1, 3)), durations=[0.01])
    (_kind, p99), _p50 = latency_graph(window).paths
    assert p99.count("M") == 2
    assert p99.count("L") == 1


def test_without_calls_nothing_is_drawn() -> None:
    window = SlottedCounts().until(NOW)
    assert [path for _kind, path in (*rate_graph(window).paths, *latency_graph(window).paths) if path] == []
