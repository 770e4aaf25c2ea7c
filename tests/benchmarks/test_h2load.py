"""What h2load reports counts only where every call got a right answer."""

import pytest

from tests.benchmarks.h2load import read
from tests.benchmarks.wire_load import LoadError

REPORT = """
finished in 1.24s, 3218.74 req/s, 210.88KB/s
requests: {done} total, {done} started, {done} done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {done} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 262.07KB (268355) total, 11.79KB (12075) headers (space savings 96.27%), 35.16KB ({data}) data
"""


def test_the_rate_is_read() -> None:
    assert read(REPORT.format(done=4000, succeeded=4000, failed=0, data=36000), 4000, 9) == 3218.74


@pytest.mark.parametrize(
    ("succeeded", "failed", "data"),
    [(3999, 1, 36000), (4000, 0, 35991), (4000, 0, 0)],
    ids=["a call failed", "an answer was short", "all answers were errors, which HTTP calls a success"],
)
def test_a_report_of_anything_else_is_refused(succeeded: int, failed: int, data: int) -> None:
    text = REPORT.format(done=4000, succeeded=succeeded, failed=failed, data=data)
    with pytest.raises(LoadError, match="not all calls got a right answer"):
        read(text, 4000, 9)


def test_a_report_in_another_form_is_refused() -> None:
    with pytest.raises(LoadError, match="something else than expected"):
        read("h2load: unknown option", 4000, 9)
