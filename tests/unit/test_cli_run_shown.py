"""What `connector-host run` shows: outputs as tables and JSON, the first rows of a table, lines on a terminal or none."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskLog
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.metrics_pb2 import ExecutionMetricResult
from google.protobuf import json_format

from connector_core import Phase
from connector_core.cli.drawing import harmless
from connector_core.cli.running.display import PlainView, elapsed
from connector_core.cli.running.following import usage_of
from connector_core.cli.running.inputs import from_json
from connector_core.cli.running.live import LiveView, coloured
from connector_core.cli.running.outputs import (
    MAX_TEXT,
    ROWS,
    Preview,
    as_json,
    as_text,
    first_rows,
    print_json,
    print_outputs,
)
from connector_core.literals import Binary, Directory, ErrorValue, File, Schema, StructuredDataset, to_literal_map

pyarrow = pytest.importorskip("pyarrow")


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def succeeded(**outputs: Any) -> agent_pb2.Resource:
    return agent_pb2.Resource(phase=Phase.SUCCEEDED.value, outputs=to_literal_map(outputs))


def printed(resource: agent_pb2.Resource, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    print_outputs(resource, out)
    return out.getvalue()


# Values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        ("a", "a"),
        (None, None),
        (True, True),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00+00:00"),
        (timedelta(minutes=1), 60.0),
        ([1, {"a": timedelta(seconds=1)}], [1, {"a": 1.0}]),
        (b"\x00\x01", "AAE="),
        (Binary(b"\x00\x01", "tag"), {"kind": "binary", "tag": "tag", "base64": "AAE="}),
        (ErrorValue("no", "n0"), {"kind": "error", "message": "no", "failed_node_id": "n0"}),
    ],
)
def test_every_value_has_a_form_in_json(value: object, expected: object) -> None:
    assert as_json(value) == expected
    json.dumps(as_json(value), allow_nan=False)


@pytest.mark.parametrize(
    "value",
    [
        File("s3://b/x.csv", "csv"),
        File("s3://b/x"),
        Directory("s3://b/x"),
        StructuredDataset("s3://b/x", "parquet"),
        Schema("s3://b/x"),
        [File("s3://b/x"), {"a": File("s3://b/y")}],
        {"a": 1, "b": [True, None, "c"]},
    ],
)
def test_what_comes_out_as_json_can_go_in_again(value: object) -> None:
    assert from_json(json.loads(json.dumps(as_json(value)))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two\nlines", "two\nlines"),
        (1.5, "1.5"),
        (None, "null"),
        ([1, "é"], '[1, "é"]'),
        (File("s3://b/x", "csv"), "s3://b/x (csv)"),
        (Directory("s3://b/x"), "s3://b/x"),
        (timedelta(seconds=90), "0:01:30"),
        (datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00+00:00"),
    ],
)
def test_people_see_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_a_long_value_is_cut_for_people() -> None:
    assert as_text("x" * (MAX_TEXT + 1)) == f"{'x' * MAX_TEXT}... (cut here; --json has all)"


# Outputs


def test_outputs_are_a_table_that_programs_can_read_too() -> None:
    assert printed(succeeded(total=3, name="snow")) == "output  value\nname    snow\ntotal   3\n"


def test_outputs_are_drawn_on_a_terminal_without_what_would_move_its_cursor() -> None:
    drawn = printed(succeeded(total="\x1b[2Jthree"), Screen())
    assert "three" in drawn
    assert "\x1b[2J" not in drawn
    assert "───" in drawn


def test_a_failed_task_has_no_outputs() -> None:
    resource = succeeded(total=3)
    resource.phase = Phase.FAILED.value
    assert printed(resource) == ""


def test_a_task_without_outputs_says_so_beside_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(succeeded()) == ""
    assert capsys.readouterr().err == "no outputs\n"


def test_rows_are_shown_as_a_table_and_many_of_them_not_at_all() -> None:
    rows = [{"a": number, "b": f"x{number}"} for number in range(ROWS + 1)]
    few = printed(succeeded(rows=rows[:2]))
    assert few == "output  value\nrows    2 rows, below\n\nrows:\na  b\n0  x0\n1  x1\n"
    many = printed(succeeded(rows=rows))
    assert f"rows, the first {ROWS} rows:" in many
    assert f"x{ROWS}" not in many


def test_a_list_of_unlike_things_is_no_table() -> None:
    assert printed(succeeded(x=[{"a": 1}, {"b": 1}])) == 'output  value\nx       [{"a": 1}, {"b": 1}]\n'


def test_an_output_that_cannot_be_read_spoils_no_other() -> None:
    resource = succeeded(a=1)
    resource.outputs.literals["b"].CopyFrom(Literal())
    assert "a       1\nb       (cannot be shown: the literal is empty" in printed(resource)
    out = io.StringIO()
    print_json(resource, out)
    assert json.loads(out.getvalue())["outputs"]["b"]["kind"] == "unreadable"


def test_json_has_all_that_the_connector_says() -> None:
    resource = succeeded(a=1)
    resource.message = "done"
    resource.log_links.append(TaskLog(name="logs", uri="https://x"))
    json_format.ParseDict({"cost": 3}, resource.custom_info)
    out = io.StringIO()
    print_json(resource, out)
    assert json.loads(out.getvalue()) == {
        "phase": "SUCCEEDED",
        "message": "done",
        "outputs": {"a": 1},
        "log_links": [{"name": "logs", "uri": "https://x"}],
        "custom_info": {"cost": 3.0},
    }


# First rows


def table(folder: Path, rows: int, form: str = "parquet") -> str:
    """Write a table of so many rows and return its URI."""
    from pyarrow import csv, parquet

    content = pyarrow.table({"a": list(range(rows)), "b": [f"x{number}" for number in range(rows)]})
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    if form == "csv":
        csv.write_csv(content, folder / "0.csv")
    else:
        parquet.write_table(content, folder / "0.parquet")
    return folder.as_uri()


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a library one that is not installed."""
    for loaded in [one for one in sys.modules if one.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("reader", ["pyarrow", "duckdb"])
def test_the_first_rows_of_a_local_table_are_read_by_whichever_library_is_here(
    tmp_path: Path, form: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = table(tmp_path / "few", 2, form), table(tmp_path / "many", ROWS + 1, form)
    if reader == "duckdb":
        pytest.importorskip("duckdb")
        without("pyarrow", monkeypatch)
    shown = first_rows(few, form)
    assert shown == Preview(["a", "b"], [[0, "x0"], [1, "x1"]], has_more=False)
    cut = first_rows(many, form)
    assert cut is not None
    assert (len(cut.rows), cut.has_more) == (ROWS, True)


@pytest.mark.parametrize("uri", ["s3://bucket/x", "file:///nowhere", "https://x/y.parquet", ""])
def test_a_table_that_is_elsewhere_is_not_read(uri: str) -> None:
    assert first_rows(uri, "parquet") is None


def test_a_table_that_nothing_here_can_read_is_only_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no parquet")
    uri = (tmp_path / "x.parquet").as_uri()
    assert first_rows(uri, "parquet") is None
    assert printed(succeeded(x=StructuredDataset(uri, "avro"))) == f"output  value\nx       {uri} (avro)\n"


def test_a_table_is_shown_below_the_outputs(tmp_path: Path) -> None:
    uri = table(tmp_path / "few", 1)
    assert printed(succeeded(x=StructuredDataset(uri, "parquet"))).endswith("(parquet)\n\nx:\na  b\n0  x0\n")
    assert printed(succeeded(x=Schema(uri))).endswith(f"x       {uri}\n\nx:\na  b\n0  x0\n")


# Views


def running(message: str = "") -> agent_pb2.Resource:
    link = TaskLog(name="dashboard", uri="https://jobs/1")
    return agent_pb2.Resource(phase=Phase.RUNNING.value, message=message, log_links=[link])


def failed() -> agent_pb2.Resource:
    error = agent_pb2.AgentError(code="Broken")
    return agent_pb2.Resource(phase=Phase.FAILED.value, message="it broke\x1b[2J", agent_error=error)


def test_without_a_terminal_each_phase_is_a_line_and_each_link_is_said_once() -> None:
    out = io.StringIO()
    with PlainView(out) as view:
        view.doing("creating")
        view.state(agent_pb2.Resource(phase=Phase.QUEUED.value))
        view.state(running("at 1 %"))
        view.state(running("at 2 %"))
        view.usage(["CPU 1.00 cores"])
        view.lines(["one", "two"])
        view.state(failed())
        view.ended(failed())
    *lines, last = out.getvalue().splitlines()
    assert lines == ["QUEUED", "see dashboard: https://jobs/1", "RUNNING: at 1 %", "| one", "| two"]
    assert last.startswith("FAILED after 0.0 s (Broken): it broke")


def test_on_a_terminal_the_job_is_pictured_below_its_log() -> None:
    out = Screen()
    with LiveView(out, "process", "Ctrl-C stops it") as view:
        view.doing("")
        view.state(running("at 1 %\nsecond line"))
        view.usage(["CPU 1.00 cores", "memory 3 MiB"])
        view.lines(["one"])
        drawn = out.getvalue()
        view.ended(failed())
    for part in ("one", "RUNNING", "process  0.", "at 1 %", "second line", "https://jobs/1", "Ctrl-C stops it"):
        assert part in drawn
    assert "CPU 1.00 cores · memory 3 MiB" in drawn
    assert out.getvalue().rpartition("FAILED")[2].startswith("\x1b[0m after 0.")
    assert "(Broken): it broke" in out.getvalue()


def test_a_log_line_keeps_its_colours_and_nothing_that_moves_the_cursor() -> None:
    text = coloured("10 %\r20 %\r\x1b[31mred\x1b[0m\x1b[2J\x07\x1b]8;;https://x\x1b\\link\x1b[A\r")
    assert text.plain == "redlink"
    assert next(str(span.style) for span in text.spans if span.start != span.end) == "color(1)"


def test_control_characters_are_taken_out_of_what_a_connector_says() -> None:
    assert harmless("a\x1b[31mb\x1b]0;title\x07c\x00d\te\nf\x9b") == "abcd    e\nf"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00"), (3599, "59:59"), (7261, "2:01:01")]
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


# Usage


def metric(name: str, data: dict[str, Any]) -> ExecutionMetricResult:
    return json_format.ParseDict({"metric": name, "data": data}, ExecutionMetricResult())


def samples(*values: str) -> dict[str, Any]:
    return {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, value] for value in values]}]}


def test_the_last_value_of_each_metric_is_shown() -> None:
    results = [
        metric("EXECUTION_METRIC_USED_CPU_AVG", samples("0.1", "0.25")),
        metric("EXECUTION_METRIC_USED_MEMORY_BYTES_AVG", samples("3145728")),
        metric("EXECUTION_METRIC_ALLOCATED_MEMORY_BYTES_AVG", samples("5368709120")),
        metric("rows_read", samples("1234")),
        metric("in another form", {"value": 1}),
        metric("empty", samples()),
    ]
    assert usage_of(results) == [
        "CPU 0.25 cores",
        "memory 3 MiB",
        "allocated memory bytes avg 5.36871e+09",
        "rows read 1234",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [("100", "100 B"), ("2048", "2 KiB"), ("5368709120", "5.0 GiB"), ("5e12", "4656.6 GiB")]
)
def test_memory_has_a_unit_that_fits(size: str, text: str) -> None:
    assert usage_of([metric("EXECUTION_METRIC_USED_MEMORY_BYTES_AVG", samples(size))]) == [f"memory {text}"]
