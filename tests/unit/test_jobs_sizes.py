"""Answers are cut to what the engine can receive, and only what it cannot do without makes a job fail."""

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_core import Phase
from connector_core.errors import PermanentError
from connector_core.jobs.sizes import MAX_TEXT_BYTES, failed, fit
from connector_core.texts import cut_text

LIMIT = 100_000


def resource(phase: Phase, *, outputs: int = 0, info: int = 0, links: int = 0, message: str = "") -> agent_pb2.Resource:
    made = agent_pb2.Resource(phase=phase.value, message=message)
    if outputs:
        made.outputs.literals["o"].scalar.primitive.string_value = "x" * outputs
    if info:
        made.custom_info["i"] = "x" * info
    made.log_links.extend(TaskLog(name="log", uri="x" * 1000) for _ in range(links))
    return made


def answer_bytes(fitted: agent_pb2.Resource) -> int:
    """What the client measures."""
    header = agent_pb2.ExecuteTaskSyncResponseHeader(resource=fitted)
    answers = (agent_pb2.GetTaskResponse(resource=fitted), agent_pb2.ExecuteTaskSyncResponse(header=header))
    return max(answer.ByteSize() for answer in answers)


def test_what_fits_stays_as_it_is() -> None:
    small = resource(Phase.SUCCEEDED, outputs=90_000, info=100, links=2, message="done")
    expected = agent_pb2.Resource.FromString(small.SerializeToString())
    assert fit(small, LIMIT) == expected


@pytest.mark.parametrize("outputs", range(LIMIT - 100, LIMIT + 3, 3))
def test_the_whole_answer_stays_below_the_limit(outputs: int) -> None:
    assert answer_bytes(fit(resource(Phase.SUCCEEDED, outputs=outputs), LIMIT)) <= LIMIT


def test_a_success_whose_outputs_are_too_large_fails_and_says_so() -> None:
    fitted = fit(resource(Phase.SUCCEEDED, outputs=200_000), LIMIT)
    assert Phase(fitted.phase) is Phase.FAILED
    assert "the engine receives 100,000" in fitted.message
    assert fitted.agent_error.code == "OutputsTooLarge"


def test_a_success_survives_information_that_is_too_large() -> None:
    fitted = fit(resource(Phase.SUCCEEDED, outputs=1000, info=200_000, links=200), LIMIT)
    assert Phase(fitted.phase) is Phase.SUCCEEDED
    assert len(fitted.outputs.literals["o"].scalar.primitive.string_value) == 1000
    assert len(fitted.log_links) == 20


def test_a_running_job_does_not_fail_by_what_it_answers_too_early() -> None:
    fitted = fit(resource(Phase.RUNNING, outputs=200_000), LIMIT)
    assert Phase(fitted.phase) is Phase.RUNNING
    assert not fitted.HasField("outputs")


def test_whatever_is_too_large_goes() -> None:
    large = resource(Phase.FAILED, outputs=200_000, info=200_000, links=300, message="m" * 200_000)
    large.agent_error.code = "c" * 200_000
    large.log_links[0].uri = "u" * 200_000
    fitted = fit(large, LIMIT)
    assert Phase(fitted.phase) is Phase.FAILED
    assert answer_bytes(fitted) <= LIMIT


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(40, 200))
def test_a_text_is_cut_to_size_and_says_so(text: str, size: int) -> None:
    cut = cut_text(text, size)
    assert len(cut.encode()) <= size
    assert cut == text or cut.endswith(" ... (cut here)")


@pytest.mark.parametrize("text", ["file \udcff", "\ud800" * 100_000])
def test_a_text_that_is_no_utf8_is_made_one(text: str) -> None:
    fitted = failed(PermanentError(text))
    assert "?" in fitted.message
    assert len(fitted.message.encode()) <= MAX_TEXT_BYTES


def test_a_failure_names_the_culprit_and_has_a_code() -> None:
    fitted = failed(PermanentError("no such table", error_code="NoTable", plugin="warehouse", operation="create"))
    assert fitted.message == "plugin 'warehouse', create(): no such table"
    assert fitted.agent_error.code == "NoTable"
    assert failed(PermanentError()).message == "PermanentError"
    assert failed(PermanentError()).agent_error.code == "Permanent"


def test_a_long_code_is_cut() -> None:
    assert failed(PermanentError("gone", error_code="c" * 1000)).agent_error.code == "c" * 241 + " ... (cut here)"
