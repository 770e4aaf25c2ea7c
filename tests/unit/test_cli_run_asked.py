"""What is asked of `connector-host run`: inputs, templates, handles, and what is wrong with them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.identifier_pb2 import TASK, Identifier
from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import (
    BlobType,
    EnumType,
    LiteralType,
    SchemaType,
    SimpleType,
    StructuredDatasetType,
    UnionType,
)
from google.protobuf import json_format

from connector_core.cli.app import run as connector_host
from connector_core.cli.running.job import Job
from connector_core.cli.running.order import Order
from connector_core.errors import SettingsError
from connector_core.literals import Directory, File, Schema, StructuredDataset, to_python_map
from connector_core.task import TaskCategory

INTEGER = LiteralType(simple=SimpleType.INTEGER)
STRING = LiteralType(simple=SimpleType.STRING)
FLOAT = LiteralType(simple=SimpleType.FLOAT)
NONE = LiteralType(simple=SimpleType.NONE)
A_FILE = LiteralType(blob=BlobType(dimensionality=BlobType.SINGLE))
A_FOLDER = LiteralType(blob=BlobType(dimensionality=BlobType.MULTIPART))
A_DATASET = LiteralType(structured_dataset_type=StructuredDatasetType(format="parquet"))


def optional(variant: LiteralType) -> LiteralType:
    return LiteralType(union_type=UnionType(variants=[variant, NONE]))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a table in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("a\n1\n")
    return tmp_path


def asked(**order: Any) -> dict[str, Any]:
    """Return the inputs of an order's request as a connector gets them."""
    return to_python_map(Order(**{"task_type": "x", **order}).to_request().inputs)


def declaring(here: Path, **inputs: LiteralType) -> Path:
    """Write a template that declares these inputs."""
    template = TaskTemplate(type="x")
    template.interface.SetInParent()
    for name, literal_type in inputs.items():
        template.interface.inputs.variables[name].CopyFrom(Variable(type=literal_type))
    file = here / "template.pb"
    file.write_bytes(template.SerializeToString())
    return file


def declared(here: Path, literal_type: LiteralType, text: str) -> Any:
    """Return what `--input x=TEXT` is where the task declares this type."""
    return asked(task_type=None, template=declaring(here, x=literal_type), input=[f"x={text}"])["x"]


# Inputs whose type nobody declares


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("snow", "snow"),
        ("", ""),
        ('"3"', "3"),
        ("a=b", "a=b"),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("{not json", "{not json"),
        ('{"kind": "repository", "uri": "x"}', {"kind": "repository", "uri": "x"}),
        ('{"kind": "file", "uri": "s3://b/x.csv", "format": "csv"}', File("s3://b/x.csv", "csv")),
        ('{"kind": "directory", "uri": "s3://b/x"}', Directory("s3://b/x")),
        ('{"kind": "dataset", "uri": "s3://b/x", "format": "parquet"}', StructuredDataset("s3://b/x", "parquet")),
        ('{"kind": "schema", "uri": "s3://b/x"}', Schema("s3://b/x")),
        ('[{"kind": "file", "uri": "s3://b/x"}]', [File("s3://b/x")]),
    ],
)
def test_an_input_is_json_where_it_parses_and_text_otherwise(text: str, value: object) -> None:
    assert asked(input=[f"x={text}"]) == {"x": value}


def test_an_input_may_come_out_of_a_file(here: Path) -> None:
    (here / "values").write_text('{"a": 1}')
    (here / "words").write_text("two\nlines\n")
    assert asked(input=["x=@values", "y=@words"]) == {"x": {"a": 1}, "y": "two\nlines\n"}


def test_files_are_given_by_path_or_uri(here: Path) -> None:
    (here / "folder").mkdir()
    assert asked(file=["a=table.csv", "b=folder", "c=s3://bucket/x.csv", "d=s3://bucket/x/"]) == {
        "a": File((here / "table.csv").as_uri()),
        "b": Directory((here / "folder").as_uri()),
        "c": File("s3://bucket/x.csv"),
        "d": Directory("s3://bucket/x/"),
    }


def test_an_input_goes_over_the_one_in_the_file_of_inputs(here: Path) -> None:
    (here / "inputs.json").write_text('{"x": 1, "y": 2, "z": {"kind": "file", "uri": "table.csv"}}')
    uri = (here / "table.csv").as_uri()
    assert asked(inputs=here / "inputs.json", input=["y=3"]) == {"x": 1, "y": 3, "z": File(uri)}


# Inputs of a declared type


@pytest.mark.parametrize(
    ("literal_type", "text", "value"),
    [
        (STRING, "2024", "2024"),
        (STRING, "true", "true"),
        (STRING, '"quoted"', "quoted"),
        (STRING, '{"a": 1}', '{"a": 1}'),
        (FLOAT, "2", 2.0),
        (LiteralType(simple=SimpleType.DATETIME), "2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (LiteralType(simple=SimpleType.DATETIME), "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        (optional(LiteralType(simple=SimpleType.DATETIME)), "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        (LiteralType(simple=SimpleType.DURATION), "90", timedelta(seconds=90)),
        (LiteralType(simple=SimpleType.BINARY), "AAE=", b"\x00\x01"),
        (LiteralType(simple=SimpleType.STRUCT), '{"a": 1}', {"a": 1}),
        (LiteralType(enum_type=EnumType(values=["1", "2"])), "2", "2"),
        (LiteralType(collection_type=FLOAT), "[1, 2]", [1.0, 2.0]),
        (LiteralType(map_value_type=LiteralType(simple=SimpleType.DURATION)), '{"a": 1}', {"a": timedelta(seconds=1)}),
        (optional(INTEGER), "3", 3),
        (optional(INTEGER), "null", None),
        (optional(STRING), "2024", "2024"),
        (optional(LiteralType(simple=SimpleType.DURATION)), "5", timedelta(seconds=5)),
        (A_FILE, "s3://b/x", File("s3://b/x")),
        (A_FILE, '{"uri": "s3://b/x", "format": "csv"}', File("s3://b/x", "csv")),
        (A_FOLDER, "s3://b/x", Directory("s3://b/x")),
        (A_DATASET, "s3://b/x", StructuredDataset("s3://b/x", "parquet")),
        (A_DATASET, '{"kind": "dataset", "uri": "s3://b/x"}', StructuredDataset("s3://b/x", "parquet")),
        (LiteralType(schema=SchemaType()), "s3://b/x", Schema("s3://b/x")),
        (optional(A_FILE), "s3://b/x", File("s3://b/x")),
    ],
)
def test_an_input_is_what_the_task_declares(here: Path, literal_type: LiteralType, text: str, value: object) -> None:
    assert declared(here, literal_type, text) == value


def test_a_path_will_do_where_a_file_is_declared(here: Path) -> None:
    assert declared(here, A_FILE, "table.csv") == File((here / "table.csv").as_uri())
    assert asked(task_type=None, template=declaring(here, x=A_DATASET), file=["x=table.csv"])["x"].uri.endswith(
        "table.csv"
    )


def test_an_optional_input_may_be_left_out(here: Path) -> None:
    assert asked(task_type=None, template=declaring(here, x=optional(INTEGER))) == {"x": None}


@pytest.mark.parametrize(
    ("literal_type", "text", "message"),
    [
        (INTEGER, "soon", "input 'x': a str where an INTEGER is expected"),
        (INTEGER, "0.5", "input 'x': a float where an INTEGER is expected"),
        (LiteralType(simple=SimpleType.DATETIME), "soon", "input 'x': a str where a DATETIME is expected"),
        (LiteralType(simple=SimpleType.DATETIME), "2024-05-01T12:00:00", "a datetime without a time zone"),
        (LiteralType(simple=SimpleType.DATETIME), "2024-05-01T12:00:00", "such as 2024-05-01T12:00:00Z"),
        (optional(LiteralType(simple=SimpleType.DATETIME)), "2024-05-01T12:00:00", "input 'x': a str where"),
        (LiteralType(simple=SimpleType.BINARY), "?", "input 'x': a str where a BINARY is expected"),
        (LiteralType(enum_type=EnumType(values=["a"])), "b", "'b' where an enum of 'a' is expected"),
        (A_FILE, "nowhere.csv", "nothing is at nowhere.csv"),
        (A_FILE, "3", "input 'x': an int where a File is expected"),
        (LiteralType(collection_type=INTEGER), "3", "input 'x': an int where a collection"),
        (LiteralType(map_value_type=INTEGER), "3", "input 'x': an int where a map"),
        (optional(INTEGER), "soon", "input 'x': a str where an INTEGER is expected"),
    ],
)
def test_an_input_of_another_type_is_refused_by_name(
    here: Path, literal_type: LiteralType, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        declared(here, literal_type, text)
    assert message in str(refused.value)


# Templates


def test_a_template_is_made_of_what_is_given() -> None:
    template = Order("spark@2", argv=["sh", "-c", "ls"], custom='{"a": [1, {"b": "c"}]}').to_request().template
    assert (template.type, template.task_type_version) == ("spark", 2)
    assert Order("x", sql="SELECT 1").to_request().template.sql.statement == "SELECT 1"
    assert (list(template.container.command), list(template.container.args)) == (["sh"], ["-c", "ls"])
    assert json_format.MessageToDict(template.custom) == {"a": [1.0, {"b": "c"}]}
    assert not template.HasField("interface")


def test_every_request_is_of_an_execution_of_its_own() -> None:
    first, second = (Order("x").to_request().task_execution_metadata.task_execution_id for _ in range(2))
    assert first.node_execution_id.execution_id.name != second.node_execution_id.execution_id.name
    assert first.task_id.name == "x"


def messages() -> Mapping[str, TaskSpec | TaskTemplate]:
    """Return templates with and without an id, by themselves and in a TaskSpec."""
    bare = TaskTemplate(type="duckdb_query", task_type_version=1)
    full = TaskTemplate(id=Identifier(resource_type=TASK, project="flytesnacks", domain="d", name="n", version="v"))
    full.MergeFrom(bare)
    documented = TaskSpec(template=full)
    documented.description.short_description = "documented"
    return {
        "a template": full,
        "a template without an id": bare,
        "a spec": TaskSpec(template=full),
        "a spec with documentation": documented,
        "a spec without an id": TaskSpec(template=bare),
    }


@pytest.mark.parametrize("name", messages())
@pytest.mark.parametrize("form", ["pb", "json"])
def test_templates_and_specs_are_told_apart(here: Path, name: str, form: str) -> None:
    message = messages()[name]
    file = here / f"task.{form}"
    file.write_bytes(message.SerializeToString() if form == "pb" else json_format.MessageToJson(message).encode())
    template = Order(template=file).to_request().template
    assert (template.type, template.task_type_version) == ("duckdb_query", 1)
    assert template.id.name in ("n", "")


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x0a\x02\x08\x01", b"text", b"{}", b'{"template": {}}'])
def test_what_is_no_task_is_refused(here: Path, content: bytes) -> None:
    (here / "task.pb").write_bytes(content)
    with pytest.raises(SettingsError, match="neither a TaskTemplate nor a TaskSpec"):
        Order(template=here / "task.pb").to_request()


def test_a_damaged_task_in_json_is_refused_with_the_place(here: Path) -> None:
    (here / "task.json").write_text('{"type": 1}')
    with pytest.raises(SettingsError, match=r"task.json is not a TaskTemplate in protobuf's JSON form.*type"):
        Order(template=here / "task.json").to_request()


def test_a_task_type_beside_a_template_has_to_be_its_own(here: Path) -> None:
    file = declaring(here)
    assert Order("x", template=file).to_request().template.type == "x"
    with pytest.raises(SettingsError, match="is a task of the type 'x' and not 'y'"):
        Order("y", template=file).to_request()


# Literal maps


def test_a_literal_map_is_passed_on_as_it_is(here: Path) -> None:
    literals = Order("x", input=["a=1", "b=two"]).to_request().inputs
    (here / "inputs.pb").write_bytes(literals.SerializeToString())
    (here / "inputs.json").write_text(json_format.MessageToJson(literals))
    assert Order("x", inputs=here / "inputs.pb").to_request().inputs == literals
    assert Order("x", inputs=here / "inputs.json").to_request().inputs == literals


def test_an_input_that_is_called_literals_is_none_of_these(here: Path) -> None:
    (here / "inputs.json").write_text('{"literals": "a"}')
    template = declaring(here, literals=STRING)
    assert asked(task_type=None, template=template, inputs=here / "inputs.json") == {"literals": "a"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("inputs.pb", b"\xff\xff", "is neither JSON nor a LiteralMap"),
        ("inputs.json", b"[1]", "--inputs is not a JSON object"),
        ("inputs.json", b'{"literals": {"a": 1}}', "is not a LiteralMap in protobuf's JSON form"),
    ],
)
def test_inputs_that_are_none_are_refused(here: Path, name: str, content: bytes, message: str) -> None:
    (here / name).write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        Order("x", inputs=here / name).to_request()


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "nothing says what to run"),
        (["run", "a b"], "is not a task category"),
        (["run", "sleep", "--input", "seconds"], "write --input NAME=VALUE"),
        (["run", "sleep", "--input", "a=1", "--input", "a=2"], "--input a is given twice"),
        (["run", "sleep", "--input", "a=1", "--file", "a=table.csv"], "a is given twice, as --input and as --file"),
        (["run", "sleep", "--input", "a=@nowhere"], "--input a: the file nowhere is not there; after @ stands a file"),
        (["run", "sleep", "--input", "a=@nowhere"], """written with JSON's quotes: '"@nowhere"'"""),
        (["run", "sleep", "--sql", "@folder"], "--sql: the file folder is a folder"),
        (["run", "sleep", "--input", "a=@binary"], "--input a: binary is not UTF-8 text"),
        (["run", "sleep", "--input", "a=99999999999999999999"], "input 'a': an int outside of 64 bits"),
        (["run", "sleep", "--file", "a=nowhere.csv"], "nothing is at nowhere.csv"),
        (["run", "sleep", "--inputs", "nowhere.json"], "nowhere.json cannot be read"),
        (["run", "sleep", "--custom", "[1]"], "--custom is not a JSON object"),
        (["run", "sleep", "--custom", "{"], "--custom is not JSON"),
        (["run", "--template", "nowhere.pb"], "nowhere.pb cannot be read"),
        (["run", "--template", "table.csv"], "is neither a TaskTemplate nor a TaskSpec"),
        (["run", "--template", "x.pb", "--sql", "SELECT 1"], "so leave out --sql"),
        (["run", "sleep", "--sql", "SELECT 1", "--", "ls"], "either SQL or a command"),
        (["run", "sleep", "--endpoint", "localhost"], "has no port"),
        (["run", "sleep", "--endpoint", "http://localhost:8000"], "is a web address"),
        (["run", "sleep", "--interval", "0"], "--interval"),
        (["run", "sleep", "--nonsense"], "No such option"),
        (["get", "nonsense"], "HANDLE is not one that"),
        (["logs", "bm9uc2Vuc2U"], "HANDLE is not one that"),
        (["delete", ""], "HANDLE is not one that"),
    ],
)
def test_bad_usage_is_explained_and_ends_with_2(
    here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "binary").write_bytes(b"\xff\xfe")
    (here / "folder").mkdir()
    assert connector_host(arguments) == 2
    assert message in capsys.readouterr().err


# Handles


def test_a_handle_finds_its_job_again() -> None:
    job = Job(TaskCategory("spark", 2), b"\x00\xff{}", "s3://bucket/x", "127.0.0.1:8000")
    handle = job.to_text()
    assert handle.replace("-", "").replace("_", "").isalnum()
    assert handle[0].isalpha()
    assert Job.from_text(f" {handle}\n") == job


def test_a_handle_that_is_cut_is_refused() -> None:
    handle = Job(TaskCategory("spark"), b"meta").to_text()
    for cut in range(len(handle)):
        with pytest.raises(SettingsError, match="or not the whole of it"):
            Job.from_text(handle[:cut])


def test_inputs_of_json_files_keep_their_numbers(here: Path) -> None:
    (here / "inputs.json").write_text(json.dumps({"x": 2**53 + 1, "y": 0.1}))
    assert asked(inputs=here / "inputs.json") == {"x": 2**53 + 1, "y": 0.1}
