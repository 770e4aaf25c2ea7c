"""The page on scaling follows from the figures that were measured, and its simulation from its seed."""

import pytest

from tests.benchmarks.figures import Results
from tests.benchmarks.model import Engine, Hosts, asks_backend, reached, replicas, simulate
from tests.benchmarks.scaling import PAGE, RESULTS, figures, fill


def test_the_page_shows_what_follows_from_the_measured_costs() -> None:
    text = PAGE.read_text()
    assert fill(text, figures(Results.read(RESULTS))) == text, "write it anew: python -m tests.benchmarks.scaling"


def test_a_simulation_is_the_same_again_and_another_with_another_seed() -> None:
    engine, hosts = Engine(processes=3), Hosts(2, cpu=0.0004)
    assert simulate(600, engine, hosts) == simulate(600, engine, hosts)
    assert simulate(600, engine, hosts) != simulate(600, engine, hosts, seed=1)


def test_a_sweep_takes_what_the_rate_limiter_lets_it() -> None:
    assert simulate(500, Engine(qps=10, burst=100), Hosts(1, 0.0004)).seconds == pytest.approx(40, abs=1)


def test_without_a_rate_limit_the_backend_sets_the_pace_of_the_workers() -> None:
    few, many = (
        simulate(5000, Engine(qps=1e9, burst=10**9, workers=workers), Hosts(4, 0.0001)) for workers in (10, 40)
    )
    assert few.seconds / many.seconds == pytest.approx(4, rel=0.1)


def test_a_replica_serves_one_call_after_the_other() -> None:
    sweep = simulate(1000, Engine(qps=1e9, burst=10**9, workers=100), Hosts(1, cpu=0.05, backend=0.001))
    assert sweep.seconds == pytest.approx(1000 * 0.05, rel=0.01)
    assert sweep.p50 > 4.5  # behind the 99 others


def test_replicas_grow_with_the_tasks_and_with_what_a_call_costs() -> None:
    assert replicas(1000, Engine(), 0.0004, 0.0005) == 1
    assert replicas(1_000_000, Engine(), 0.0006, 0) == 34  # 33,333 polls a second on 60 % of a core
    assert replicas(1_000_000, Engine(interval=60), 0.0006, 0) == 17


def test_what_a_replica_remembers_spares_less_the_more_replicas_there_are() -> None:
    assert asks_backend(3000, Engine(), 1) == 100
    assert asks_backend(3000, Engine(), 1, remembered=60) == 50
    assert asks_backend(3000, Engine(), 9, remembered=60) == 90


def test_batches_are_bounded_by_their_windows() -> None:
    assert asks_backend(3_000_000, Engine(), 2, window=0.02) == pytest.approx(100, rel=0.01)


def test_added_replicas_are_found_when_connections_end_and_only_then() -> None:
    assert reached(None, [10_000]) == [0]
    assert reached(300, [0, 330]) == [0, 0.5]
