"""What the console counts: the last five minutes, in steps of five seconds."""

import math

import pytest

from connector_core.calls import CallRecord
from connector_core.http.console.figures import SLOT_SECONDS, SLOTS, WINDOW_SECONDS, Figures
from connector_core.http.console.graphs import latency_graph, rate_graph
from tests.support.calls import NOW, call


def counted(*calls: CallRecord) -> Figures:
    figures = Figures()
    for one in calls:
        figures.add(one)
    return figures


def test_calls_and_failures_stand_in_the_slot_in_which_they_ended() -> None:
    older = NOW - 2 * SLOT_SECONDS
    window = counted(call(), call(code="INTERNAL"), call(at=older)).until(NOW)
    assert (window.calls[-1], window.failed[-1]) == (2, 1)
    assert (window.calls[-3], window.failed[-3]) == (1, 0)
    assert (window.total, window.total_failed) == (3, 1)
    assert window.per_second == 3 / WINDOW_SECONDS


def test_what_is_older_than_the_window_no_longer_counts() -> None:
    figures = counted(call(), call())
    assert figures.until(NOW + WINDOW_SECONDS - SLOT_SECONDS).total == 2
    assert figures.until(NOW + WINDOW_SECONDS).total == 0


def test_a_slot_that_comes_round_again_begins_at_nothing() -> None:
    figures = counted(call(code="INTERNAL"), call(at=NOW + WINDOW_SECONDS))
    window = figures.until(NOW + WINDOW_SECONDS)
    assert (window.total, window.total_failed) == (1, 0)


def test_a_clock_that_was_set_back_loses_calls_and_mixes_none() -> None:
    figures = counted(call(at=NOW + WINDOW_SECONDS), call(at=NOW))
    assert figures.until(NOW + WINDOW_SECONDS).total == 1


@pytest.mark.parametrize("scale", [0.0001, 0.004, 0.3, 25.0])
def test_percentiles_are_right_to_five_percent(scale: float) -> None:
    durations = [scale * (1 + number / 100) for number in range(1000)]
    window = counted(*(call(seconds=seconds) for seconds in durations)).until(NOW)
    assert window.p50 is not None
    assert window.p99 is not None
    assert math.isclose(window.p50, durations[499], rel_tol=0.06)
    assert math.isclose(window.p99, durations[989], rel_tol=0.06)


def test_one_slow_call_in_ten_shows_in_p99_and_not_in_p50() -> None:
    window = counted(*(call(seconds=0.01) for _ in range(9)), call(seconds=5)).until(NOW)
    assert window.p50 == pytest.approx(0.01, rel=0.06)
    assert window.p99 == pytest.approx(5, rel=0.06)


def test_following_a_log_counts_as_a_call_and_not_as_a_slow_one() -> None:
    window = counted(call(operation="get_logs", seconds=3600)).until(NOW)
    assert window.total == 1
    assert window.p99 is None


def test_no_call_is_no_duration() -> None:
    window = Figures().until(NOW)
    assert (window.p50, window.p99, set(window.p99s)) == (None, None, {None})
    assert len(window.calls) == SLOTS


# Graphs


def test_a_graph_says_in_words_what_it_draws() -> None:
    window = counted(call(seconds=0.5), call(code="INTERNAL", seconds=0.5)).until(NOW)
    assert rate_graph(window).words == "2 calls in 5 minutes, 1 failed"
    assert latency_graph(window).words.startswith("up to 499 ms")


def test_failed_calls_stand_below_the_others() -> None:
    window = counted(call(), call(), call(), call(code="INTERNAL")).until(NOW)
    (_kind, rest), (_bad, failed) = rate_graph(window).paths
    assert failed == "M118 24.0v-6.0h1.5v6.0z"
    assert rest == "M118 18.0v-18.0h1.5v18.0z"


def test_a_line_breaks_where_nothing_was_called() -> None:
    window = counted(*(call(at=NOW - ago * SLOT_SECONDS) for ago in (0, 1, 3))).until(NOW)
    (_kind, p99), _p50 = latency_graph(window).paths
    assert p99.count("M") == 2
    assert p99.count("L") == 1


def test_without_calls_nothing_is_drawn() -> None:
    window = Figures().until(NOW)
    assert [path for _kind, path in (*rate_graph(window).paths, *latency_graph(window).paths) if path] == []
