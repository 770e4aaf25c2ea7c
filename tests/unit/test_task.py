"""Task categories are read and written, and the idempotency key tells tasks apart."""

import re

import pytest
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from connector_core import TaskCategory
from connector_core.task import Attempt, describe_execution, idempotency_key


def execution(
    *, project: str = "sales", name: str = "f00", node: str = "n0", attempt: int = 0, task: str = "etl.load"
) -> TaskExecutionIdentifier:
    return TaskExecutionIdentifier(
        task_id=Identifier(name=task, version="v1"),
        node_execution_id=NodeExecutionIdentifier(
            node_id=node,
            execution_id=WorkflowExecutionIdentifier(project=project, domain="prod", name=name),
        ),
        retry_attempt=attempt,
    )


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("spark", TaskCategory("spark")),
        ("spark@0", TaskCategory("spark", 0)),
        ("spark@12", TaskCategory("spark", 12)),
        ("bigquery.query-job/v2", TaskCategory("bigquery.query-job/v2")),
    ],
)
def test_a_category_is_a_name_and_maybe_a_version(text: str, category: TaskCategory) -> None:
    assert TaskCategory.parse(text) == category


@pytest.mark.parametrize("text", ["", "@1", "spark@", "spark@one", "spark@-1", "a b", "a@1@2", " spark", "spark\n"])
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"NAME@VERSION.*'spark@1'"):
        TaskCategory.parse(text)


@pytest.mark.parametrize("text", ["spark", "spark@3"])
def test_a_category_is_written_as_it_is_read(text: str) -> None:
    assert str(TaskCategory.parse(text)) == text


def test_a_category_can_be_a_key_and_be_sorted() -> None:
    assert {TaskCategory("a"): 1}[TaskCategory("a", 0)] == 1
    assert sorted({TaskCategory("b"), TaskCategory("a", 2), TaskCategory("a", 1)}) == [
        TaskCategory("a", 1),
        TaskCategory("a", 2),
        TaskCategory("b"),
    ]


def test_an_execution_is_described_in_one_word() -> None:
    assert describe_execution(execution(attempt=2)) == "sales/prod/f00/n0/2"


def test_an_execution_without_a_name_is_described_by_nothing() -> None:
    assert describe_execution(TaskExecutionIdentifier()) == ""


def test_the_key_is_32_hexadecimal_digits() -> None:
    assert re.fullmatch("[0-9a-f]{32}", idempotency_key(execution(), "s3://bucket/n0/0"))


def test_the_key_of_the_same_attempt_stays_the_same() -> None:
    """The literal key is here because a job that is under way while the host is upgraded must be found again."""
    key = idempotency_key(execution(), "s3://bucket/n0/0")
    assert key == idempotency_key(execution(), "s3://bucket/n0/0")
    assert key == "093507394b864c54d78d9181daa80819"


@pytest.mark.parametrize(
    "other",
    [
        execution(attempt=1),
        execution(node="n1"),
        execution(name="f01"),
        execution(project="hr"),
        execution(task="etl.store"),
        TaskExecutionIdentifier(),
    ],
    ids=["attempt", "node", "execution", "project", "task", "none"],
)
def test_the_key_differs_with_the_execution(other: TaskExecutionIdentifier) -> None:
    assert idempotency_key(other, "s3://bucket/n0/0") != idempotency_key(execution(), "s3://bucket/n0/0")


def test_the_key_differs_with_the_output_prefix() -> None:
    """The engine gives two uses of one sub-workflow the same id and attempt; only the prefix tells them apart."""
    assert idempotency_key(execution(), "s3://bucket/a/n0/0") != idempotency_key(execution(), "s3://bucket/b/n0/0")


def test_what_is_cut_from_the_id_and_added_to_the_prefix_gives_another_key() -> None:
    """The id's last field is the attempt: its two bytes, moved into the prefix, make the same sequence of bytes."""
    whole = execution(attempt=1).SerializeToString(deterministic=True)
    rest = execution(attempt=0).SerializeToString(deterministic=True)
    moved = whole.removeprefix(rest).decode()
    assert rest + moved.encode() == whole
    assert idempotency_key(execution(attempt=1), "x") != idempotency_key(execution(attempt=0), f"{moved}x")


@pytest.mark.parametrize("first", [0, 1], ids=["an engine of the 1.x line", "an engine of the 2.x line"])
def test_earlier_attempts_are_told_from_the_output_prefix(first: int) -> None:
    """Both lines count `retry_attempt` from 0; the output prefixes of the 2.x line end in 1 at first."""
    attempts = [Attempt.of(execution(attempt=number), f"s3://bucket/n0/{number + first}") for number in range(4)]
    keys = [attempt.key for attempt in attempts if attempt is not None]
    assert [attempt.earlier_keys() for attempt in attempts if attempt is not None] == [
        [],
        keys[:1],
        keys[1::-1],
        keys[2::-1],
    ]


@pytest.mark.parametrize("ending", ["5", "0", "", "2/x"])
def test_a_prefix_that_ends_in_something_else_tells_nothing_of_earlier_attempts(ending: str) -> None:
    attempt = Attempt.of(execution(attempt=2), f"s3://bucket/n0/{ending}")
    assert attempt is not None
    assert attempt.earlier_keys() == []
