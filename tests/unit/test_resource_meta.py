"""Resource metas survive the wire, in both directions and across versions; resources say where a job is."""

import dataclasses
import enum
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from flyteidl.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.core import execution_pb2
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from connector_core import LinkType, LogLink, LogPage, Phase, Resource, ResourceMeta
from connector_core.errors import InvalidInputError, InvalidResourceMetaError
from connector_core.resource import to_task_log


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Node:
    host: str
    ports: list[int] = field(default_factory=list)


@dataclass
class PlainMeta(ResourceMeta):
    job_id: str
    attempt: int
    cost: float = 0.5
    urgent: bool = False
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)


@dataclass
class RichMeta(ResourceMeta):
    began: datetime
    size: Size
    folder: Path
    pair: tuple[int, str]


@dataclass
class EmptyMeta(ResourceMeta):
    pass


FULL = PlainMeta("j-1 é", 3, 1.25, True, "p", {"team": "sales"}, [Node("a", [1, 2]), Node("b")])


@pytest.mark.parametrize("meta", [FULL, PlainMeta("j", 0), EmptyMeta()], ids=["full", "defaults", "empty"])
def test_the_bytes_are_the_json_of_the_fields_as_todays_servers_write_it(meta: ResourceMeta) -> None:
    assert meta.encode() == json.dumps(dataclasses.asdict(meta)).encode()


@dataclass
class ShortMeta(ResourceMeta):
    job_id: str
    attempt: "int" = 0
    is_last: bool = False


@given(st.text(), st.integers(-(2**70), 2**70), st.booleans())
@example('\x7f \x00 " \\ / \u2028 é', 2**64, True)
def test_fields_of_texts_and_whole_numbers_are_written_so_too_or_are_none_that_can_be_read(
    job_id: str, attempt: int, is_last: bool
) -> None:
    meta = ShortMeta(job_id, attempt, is_last)
    try:
        data = meta.encode()
    except TypeError:
        assert abs(attempt) >= 2**63
    else:
        assert data == json.dumps(dataclasses.asdict(meta)).encode()
        assert ShortMeta.decode(data) == meta


@pytest.mark.parametrize("value", [1.5, float("nan"), None, b"x", "1", True, [1]])
def test_what_its_annotation_does_not_allow_is_refused_in_a_short_one_as_well(value: Any) -> None:
    with pytest.raises(TypeError, match="ShortMeta cannot be written as JSON and read again"):
        ShortMeta("j", value).encode()


@pytest.mark.parametrize(
    "meta",
    [FULL, EmptyMeta(), RichMeta(datetime(2024, 2, 29, 12, tzinfo=UTC), Size.LARGE, Path("/tmp/x"), (1, "a"))],
    ids=["plain", "empty", "rich"],
)
def test_what_was_encoded_is_decoded_to_the_same(meta: ResourceMeta) -> None:
    assert type(meta).decode(meta.encode()) == meta


def test_a_field_that_a_newer_writer_added_is_ignored() -> None:
    assert PlainMeta.decode(b'{"job_id": "j", "attempt": 1, "invented": [1]}') == PlainMeta("j", 1)


def test_a_field_that_an_older_writer_left_out_has_its_default() -> None:
    assert PlainMeta.decode(b'{"job_id": "j", "attempt": 1}').cost == 0.5


@dataclass
class DefaultsMeta(ResourceMeta):
    job_id: str
    attempt: int = 1
    made: int = field(default=2, init=False)


def test_defaults_are_written_whether_they_were_read_or_not() -> None:
    assert DefaultsMeta("j").encode() == b'{"job_id": "j", "attempt": 1, "made": 2}'
    assert DefaultsMeta.decode(b'{"job_id": "j"}').encode() == DefaultsMeta("j").encode()
    assert PlainMeta.decode(b'{"job_id": "j", "attempt": 1}').encode() == PlainMeta("j", 1).encode()


def test_a_whole_number_will_do_for_a_float() -> None:
    assert PlainMeta.decode(b'{"job_id": "j", "attempt": 1, "cost": 2}').cost == 2.0


@dataclass
class LooseMeta(ResourceMeta):
    """As many are written for flytekit: what is not there yet is `None`, whatever the annotation says."""

    job_id: str
    trigger: Node = None  # type: ignore[assignment]


def test_null_is_taken_for_a_field_whose_default_it_is() -> None:
    assert LooseMeta.decode(LooseMeta("j").encode()) == LooseMeta("j")
    with pytest.raises(InvalidResourceMetaError, match="field 'job_id'"):
        LooseMeta.decode(b'{"job_id": null, "trigger": null}')


@pytest.mark.parametrize(
    ("meta", "culprit"),
    [
        (PlainMeta("j", "1"), "attempt"),  # type: ignore[arg-type]
        (PlainMeta(None, 1), "job_id"),  # type: ignore[arg-type]
        (PlainMeta("j", 1, tags={"a": object()}), "object"),  # type: ignore[dict-item]
        (PlainMeta("j", 1, parent=b"\xff"), "bytes"),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_again_is_not_written(meta: ResourceMeta, culprit: str) -> None:
    """The job's creator hears of it, and not everybody who asks for the job later."""
    with pytest.raises(TypeError, match=rf"PlainMeta.*cannot be written[\s\S]*{culprit}"):
        meta.encode()


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidResourceMetaError, match=r"not a PlainMeta: field 'attempt'.*required") as caught:
        PlainMeta.decode(b'{"job_id": "j"}')
    assert caught.value.field == "attempt"


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"attempt": "1"}, "attempt"),
        ({"attempt": 1.5}, "attempt"),
        ({"attempt": None}, "attempt"),
        ({"job_id": 7}, "job_id"),
        ({"urgent": 1}, "urgent"),
        ({"tags": ["a"]}, "tags"),
        ({"nodes": [{"host": "a"}, {"host": 5}]}, "nodes.1.host"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_value_of_another_type_is_refused_and_its_field_named(change: dict[str, object], culprit: str) -> None:
    data = json.dumps({"job_id": "j", "attempt": 1, **change}).encode()
    with pytest.raises(InvalidResourceMetaError, match=f"field '{culprit}'") as caught:
        PlainMeta.decode(data)
    assert caught.value.field == culprit


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\xff\x00", b"[]", b"null", b'"text"', b"{", b"[" * 100_000], ids=lambda data: data[:8]
)
def test_garbage_is_refused_with_the_types_name(data: bytes) -> None:
    with pytest.raises(InvalidResourceMetaError, match="not a PlainMeta"):
        PlainMeta.decode(data)


class Account(BaseModel):
    name: str
    limit: int = 1


@dataclass
class OtherMeta(ResourceMeta):
    """What JSON has no form of its own for."""

    digest: bytes = b""
    share: float = 0.0
    account: Account | None = None
    size: Size = Size.SMALL
    level: Literal["low", "high"] = "low"
    waits: timedelta = timedelta()
    names: set[str] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    key: UUID | None = None
    price: Decimal = Decimal(0)
    large: int = 0
    _own: str = ""


@pytest.mark.parametrize(
    "change",
    [
        {"digest": b"\xff\x00"},
        {"share": math.inf},
        {"account": Account(name="sales")},
        {"waits": timedelta(days=1, microseconds=1)},
        {"names": {"a", "b"}},
        {"counts": {1: 2}},
        {"key": UUID(int=7)},
        {"price": Decimal("0.10")},
        {"large": 10**30},
        {"_own": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fields_may_be_what_json_has_no_form_for(change: dict[str, Any]) -> None:
    assert OtherMeta.decode(OtherMeta(**change).encode()) == OtherMeta(**change)


def test_nan_is_a_float_as_pythons_json_has_it() -> None:
    assert math.isnan(OtherMeta.decode(OtherMeta(share=math.nan).encode()).share)


@dataclass
class Undecidable(ResourceMeta):
    when: datetime | date | None = None


def test_an_annotation_that_nobody_can_read_is_found_when_the_job_is_created() -> None:
    with pytest.raises(TypeError, match=r"Undecidable has annotations that cannot be read from JSON: .*date"):
        Undecidable().encode()
    with pytest.raises(TypeError, match="Undecidable has annotations that cannot be read from JSON"):
        Undecidable.decode(b"{}")


@pytest.mark.parametrize(
    "data",
    [
        {"digest": "s3cret!"},
        {"share": "s3cret"},
        {"account": {"name": "x", "limit": "s3cret"}},
        {"size": "s3cret"},
        {"level": "s3cret"},
        {"waits": "s3cret"},
        {"key": "s3cret"},
        {"price": "s3cret"},
    ],
    ids=lambda data: next(iter(data)),
)
def test_a_refusal_names_the_field_and_does_not_repeat_the_value(data: dict[str, Any]) -> None:
    """A resource meta may hold what is nobody's business, and refusals go into logs."""
    with pytest.raises(InvalidResourceMetaError) as caught:
        OtherMeta.decode(json.dumps(data).encode())
    assert caught.value.field == next(iter(data))
    assert "s3cret" not in str(caught.value)
    assert isinstance(caught.value, InvalidInputError)


def test_what_is_no_json_is_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidResourceMetaError) as caught:
        PlainMeta.decode(b'{"job_id": s3cret}')
    assert "s3cret" not in str(caught.value)


def test_phases_are_the_protocols_without_the_one_that_reads_as_a_failure() -> None:
    protocol = dict(TaskExecution.Phase.items())
    assert protocol.pop("UNDEFINED") == 0
    assert {phase.name: phase.value for phase in Phase} == protocol


def test_a_job_stays_in_a_terminal_phase() -> None:
    ends = {Phase.SUCCEEDED, Phase.ABORTED, Phase.FAILED, Phase.RETRYABLE_FAILED}
    assert {phase for phase in Phase if phase.is_terminal} == ends


def test_a_log_link_becomes_the_protocols() -> None:
    link = LogLink("Dashboard", "http://example.test/1").to_flyte()
    assert (link.name, link.uri) == ("Dashboard", "http://example.test/1")
    assert isinstance(link, TaskLog)


def second_generation(link: object) -> Any:
    return execution_pb2.TaskLog.FromString(to_task_log(link).SerializeToString())


def test_a_link_has_no_more_in_it_than_the_first_generation_knows_unless_it_says_more() -> None:
    assert LogLink("a", "b").to_flyte() == TaskLog(name="a", uri="b", message_format=TaskLog.JSON)


@pytest.mark.parametrize("icon", ["", "x", "http://example.test/" + "ü" * 200])
@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("link_type", LinkType)
def test_a_link_says_what_consoles_of_the_second_generation_show(link_type: LinkType, ready: bool, icon: str) -> None:
    told = second_generation(LogLink("a", "b", link_type, ready, icon))
    if link_type is not LinkType.DASHBOARD or not ready or icon:
        assert (LinkType(told.link_type), told.ready, told.icon_uri) == (link_type, ready, icon)
    assert (told.name, told.uri) == ("a", "b")


def test_a_link_says_how_long_it_holds_and_when_it_is_shown() -> None:
    link = LogLink("a", "b", ttl=1.5, show_while_pending=True, hide_once_finished=True).to_flyte()
    assert (link.ttl.ToTimedelta(), link.ShowWhilePending, link.HideOnceFinished) == (
        timedelta(seconds=1.5),
        True,
        True,
    )


@pytest.mark.parametrize("ready", [True, False])
def test_links_may_be_the_protocols_of_either_generation(ready: bool) -> None:
    first = TaskLog(name="a", uri="b")
    assert to_task_log(first) == first
    second = execution_pb2.TaskLog(name="a", uri="b", ready=ready, link_type=execution_pb2.TaskLog.IDE)
    assert second_generation(second) == second


def test_what_is_not_a_link_is_refused() -> None:
    with pytest.raises(TypeError, match="log_links has a str, not a LogLink or a TaskLog"):
        to_task_log("http://example.test/1")


def test_a_resource_needs_a_phase_only() -> None:
    assert Resource(Phase.QUEUED) == Resource(Phase.QUEUED, None, "", (), None, None)


def test_an_empty_page_is_the_last_one() -> None:
    assert (LogPage().lines, LogPage().token) == ((), "")
