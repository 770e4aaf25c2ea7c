"""Which of the last calls the console keeps, and which of them somebody sees."""

import pytest

from connector_core.observing.call_records import CallRecord
from connector_core.observing.recent_calls import CALLERS, FAILED, OK, Filter, RecentCalls
from tests.support.calls import NOW, call


def kept(each: int, *calls: CallRecord) -> RecentCalls:
    recent = RecentCalls(each)
    for one in calls:
        recent.add(one)
    return recent


def shown(recent: RecentCalls, wanted: Filter | None = None, at_most: int = 100) -> list[CallRecord]:
    return [one.call for one in recent.newest(wanted or Filter(), at_most)[0]]


def test_the_newest_stand_first_whatever_their_operation() -> None:
    calls = [call(at=NOW + second, operation=name) for second, name in enumerate(["create", "do", "delete", "create"])]
    assert shown(kept(10, *calls)) == calls[::-1]


def test_of_each_operation_the_last_are_kept() -> None:
    calls = [call(at=NOW + number) for number in range(5)]
    assert shown(kept(3, *calls)) == calls[:1:-1]


def test_frequent_calls_push_out_neither_other_operations_nor_failures() -> None:
    rare = [call(operation="delete"), call(code="INTERNAL"), call(operation="get", code="UNAVAILABLE")]
    polls = [call(at=NOW + number, operation="get", execution=f"job {number}") for number in range(1, 1000)]
    recent = kept(5, *rare, *polls)
    assert set(rare) <= set(shown(recent))
    assert len(recent) == len(rare) + 5


def test_callers_that_repeat_a_mistake_push_out_no_other_failure() -> None:
    failure = call(code="INTERNAL")
    mistakes = [call(at=NOW + number, code="INVALID_ARGUMENT", is_callers_doing=True) for number in range(1, 100)]
    recent = kept(5, failure, *mistakes)
    assert failure in shown(recent, Filter(status=FAILED))
    assert shown(recent, Filter(status=CALLERS)) == mistakes[:-6:-1]


def test_polls_of_one_job_that_go_well_are_one_entry_that_counts_them() -> None:
    polls = [call(at=NOW + number, operation="get", execution="s3://a/0") for number in range(7)]
    other = call(at=NOW, operation="get", execution="s3://b/0")
    newest, found = kept(2, *polls[:3], other, *polls[3:]).newest(Filter(), 10)
    assert [(one.call, one.times) for one in newest] == [(polls[-1], 7), (other, 1)]
    assert found == 2


def test_polls_that_do_not_say_of_which_job_are_kept_apart() -> None:
    assert len(kept(5, *(call(operation="get", execution="") for _ in range(3)))) == 3


def test_polls_that_fail_are_kept_one_by_one() -> None:
    assert len(kept(5, *(call(operation="get", code="UNAVAILABLE") for _ in range(3)))) == 3


def test_what_the_metadata_service_answers_well_is_not_kept() -> None:
    asked = [call(operation="list_agents", task_type=""), call(operation="get_agent", task_type="", code="NOT_FOUND")]
    assert shown(kept(5, *asked)) == asked[1:]


def test_more_are_found_than_shown() -> None:
    recent = kept(10, *(call(at=NOW + number) for number in range(8)))
    newest, found = recent.newest(Filter(), 3)
    assert (len(newest), found) == (3, 8)


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Filter(), True),
        (Filter(operation="create"), True),
        (Filter(operation="do"), False),
        (Filter(status=FAILED), True),
        (Filter(status="PERMISSION_DENIED"), True),
        (Filter(status=OK), False),
        (Filter(status="INTERNAL"), False),
        (Filter(text="F00"), True),
        (Filter(text="  "), True),
        (Filter(text="sales permission_denied"), True),
        (Filter(text="acme"), True),
        (Filter(text="ab12"), True),
        (Filter(text="sales marketing"), False),
        (Filter(text="f00", operation="create", status=FAILED), True),
        (Filter(text="f00", operation="delete", status=FAILED), False),
    ],
)
def test_a_filter_takes_what_has_all_that_it_names(wanted: Filter, takes: bool) -> None:
    assert wanted.takes(call(code="PERMISSION_DENIED", reference="ab12")) is takes


def test_nothing_failed_in_a_call_that_went_well() -> None:
    assert Filter(status=OK).takes(call())
    assert not Filter(status=FAILED).takes(call())


@pytest.mark.parametrize(("wanted", "is_on"), [(Filter(), False), (Filter(" "), False), (Filter(status=OK), True)])
def test_a_filter_is_on_when_it_may_leave_something_out(wanted: Filter, is_on: bool) -> None:
    assert wanted.is_on is is_on
