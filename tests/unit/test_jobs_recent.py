"""Answers that are given again for a while, and kept no longer than that."""

from flyteidl.admin.agent_pb2 import Resource

from connector_core.jobs.recent import RecentAnswers


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_there_until_its_time_is_over() -> None:
    clock = Clock()
    recent = RecentAnswers(clock)
    recent.keep(b"job", Resource(message="at work"), 10)
    clock.now = 9.9
    answer = recent.get(b"job")
    assert answer is not None
    assert answer.message == "at work"
    clock.now = 10
    assert recent.get(b"job") is None


def test_answers_whose_time_is_over_take_no_room() -> None:
    clock = Clock()
    recent = RecentAnswers(clock)
    for number in range(1000):
        clock.now = float(number)
        recent.keep(str(number).encode(), Resource(message="at work"), 10)
    assert len(recent) <= 10


def test_answers_that_are_not_to_be_given_again_are_not_kept() -> None:
    recent = RecentAnswers()
    recent.keep(b"job", Resource(message="at work"), 0)
    recent.keep(b"large", Resource(message="x" * 100_000), 10)
    assert len(recent) == 0


def test_there_is_a_limit_to_all_of_them() -> None:
    recent = RecentAnswers(Clock())
    for number in range(2000):
        recent.keep(str(number).encode(), Resource(message="x" * 60_000), 10)
    assert 1000 < len(recent) < 1200
    assert recent.get(b"1999") is not None
    assert recent.get(b"0") is None
