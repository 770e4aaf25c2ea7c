"""What a request costs in instructions and calls does not grow unnoticed."""

import sys

import pytest

from tests.benchmarks.instructions import ACCEPT, PYTHON, Counts, grown, read
from tests.support.environments import ROOT, run, try_to_run

SLOWER = """
from connector_core.services import AsyncConnectorService
from tests.benchmarks import instructions

was = AsyncConnectorService.GetTask

async def slower(self, raw, context):
    for _ in range(200):
        pass
    return await was(self, raw, context)

AsyncConnectorService.GetTask = slower
instructions.main()
"""

needs_a_baseline = pytest.mark.skipif(
    PYTHON not in read(), reason=f"no baseline for Python {PYTHON}; make one: {ACCEPT}"
)


@pytest.mark.slow
@needs_a_baseline
def test_no_request_costs_a_tenth_more_than_the_baseline() -> None:
    run(sys.executable, "-m", "tests.benchmarks.instructions", cwd=ROOT, PYTHONHASHSEED="0")


@pytest.mark.slow
@needs_a_baseline
def test_a_slower_servicer_is_found_and_the_way_to_accept_it_is_told() -> None:
    result = try_to_run(sys.executable, "-c", SLOWER, cwd=ROOT, PYTHONHASHSEED="0")
    assert result.returncode == 1
    assert "GetTask, protected takes" in result.stderr
    assert "CreateTask" not in result.stderr
    assert ACCEPT in result.stderr


def test_growth_within_a_tenth_is_let_pass() -> None:
    baseline: Counts = {"GetTask": {"instructions": 1000, "calls": 100}}
    assert grown(baseline, {"GetTask": {"instructions": 1099, "calls": 109}}) == []
    assert grown(baseline, {"GetTask": {"instructions": 500, "calls": 111}}) == [
        f"GetTask takes 111 calls, +11% (baseline of Python {PYTHON}: 100)"
    ]
