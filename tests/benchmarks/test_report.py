"""The results page says what was measured, and what of it reaches its target."""

from pathlib import Path

from tests.benchmarks import plots
from tests.benchmarks.claims import CLAIMS, Claim
from tests.benchmarks.figures import Results, Section, ratios, spread
from tests.benchmarks.report import COMMAND, PAGE, claims, page
from tests.benchmarks.scaling import RESULTS
from tests.benchmarks.sections import TABLES
from tests.benchmarks.servers import F_TYPED_UV, FLYTEKIT, VOUCHED


def results(**rates: list[float]) -> Results:
    figures = {row: {"rate": values} for row, values in rates.items()}
    section = Section(figures, commit="abc", when="now", effort="3 rounds", others=0.1)
    return Results(sections={"get": section})


def test_a_ratio_is_taken_in_each_round_and_then_its_median() -> None:
    measured = results(**{VOUCHED: [90.0, 50.0, 100.0], F_TYPED_UV: [100.0, 50.0, 110.0], FLYTEKIT: [80.0, 40.0, 80.0]})
    rows = claims(measured).splitlines()
    assert "| GetTask: vouched / F-typed-uv | 0.91 (0.90-1.00) | >= 0.95 | **no** |" in rows
    assert "| GetTask: vouched / flytekit | 1.25 (1.12-1.25) | >= 1.25 | yes |" in rows


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    claim = Claim("x", lambda results: results.values("get", "nobody", "rate"), 1)
    assert claim.is_reached(results()) is None
    assert "nobody" not in claims(results())


def test_a_spread_is_shown_where_there_is_one() -> None:
    assert spread([3.0, 1.0, 2.0], "{:.0f}") == "2 (1-3)"
    assert spread([2.0, 2.0], "{:.0f}") == "2"
    assert spread([], "{:.0f}") == "-"
    assert ratios([1.0], [0.0]) == []


def test_results_are_the_same_when_read_again(tmp_path: Path) -> None:
    measured = results(**{VOUCHED: [1234.5, 0.25]})
    measured.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == measured


def test_a_plot_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    measured = results(**{VOUCHED: [100.0, 110.0], FLYTEKIT: [80.0, 81.0]})
    drawn = [plots.draw(measured, tmp_path / name) for name in ("one", "other")]
    assert drawn == [["calls"], ["calls"]]
    assert (tmp_path / "one" / "calls.svg").read_bytes() == (tmp_path / "other" / "calls.svg").read_bytes()


def test_every_plot_of_a_table_can_be_drawn() -> None:
    assert {table.plot for table in TABLES.values() if table.plot} == set(plots._PLOTS)
    assert len({claim.what for claim in CLAIMS}) == len(CLAIMS)


def test_the_page_shows_the_figures_that_are_kept() -> None:
    assert PAGE.read_text() == page(Results.read(RESULTS)), f"write it anew: {COMMAND} --report"
