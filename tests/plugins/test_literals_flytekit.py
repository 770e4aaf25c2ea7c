"""Literals that flytekit makes are read here, and literals made here are read by flytekit, for each kind that it has."""

import datetime as dt
import signal
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from google.protobuf.struct_pb2 import Struct
from pydantic import BaseModel

from connector_core.literals import Directory, ErrorValue, File, Schema, StructuredDataset, to_literal, to_python

on_interrupt = signal.getsignal(signal.SIGINT)
flytekit = pytest.importorskip(
    "flytekit", reason="flytekit, whose literals these tests read and write, is not installed"
)
from flytekit import FlyteContextManager, kwtypes  # noqa: E402
from flytekit.core.context_manager import FlyteContext  # noqa: E402
from flytekit.core.data_persistence import FileAccessProvider  # noqa: E402
from flytekit.core.type_engine import TypeEngine  # noqa: E402
from flytekit.models.literals import Literal as FlytekitLiteral  # noqa: E402
from flytekit.types.directory import FlyteDirectory  # noqa: E402
from flytekit.types.error.error import FlyteError  # noqa: E402
from flytekit.types.file import FlyteFile  # noqa: E402
from flytekit.types.schema import FlyteSchema, SchemaOpenMode  # noqa: E402
from flytekit.types.structured.structured_dataset import StructuredDataset as FlytekitDataset  # noqa: E402

signal.signal(signal.SIGINT, on_interrupt)  # importing flytekit takes Ctrl-C away from pytest

NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=dt.UTC)
TABLE = Annotated[FlytekitDataset, kwtypes(a=int, b=list[str]), "parquet"]
OLD_TABLE = FlyteSchema[kwtypes(a=int, b=dt.datetime)]
CSV = FlyteFile["csv"]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Inner:
    n: int
    x: float


@dataclass
class Outer:
    inner: Inner
    items: list[Inner]
    names: dict[int, str]
    colour: Colour
    when: dt.datetime
    wait: dt.timedelta
    maybe: int | None = None


@dataclass
class Files:
    file: FlyteFile
    folder: FlyteDirectory


@dataclass
class OurFiles:
    file: File
    folder: Directory


class Model(BaseModel):
    n: int
    when: dt.datetime
    inner: dict[str, float]


OUTER = Outer(Inner(1, 2.0), [Inner(2, 0.5)], {1: "one"}, Colour.BLUE, NOON, dt.timedelta(seconds=1.5))
OUTER_DATA = {
    "inner": {"n": 1, "x": 2.0},
    "items": [{"n": 2, "x": 0.5}],
    "names": {1: "one"},
    "colour": "blue",
    "when": "2024-02-29T12:00:00.123456+00:00",
    "wait": 1.5,
    "maybe": None,
}
MODEL = Model(n=1, when=NOON, inner={"a": 0.5})
MODEL_DATA = {"n": 1, "when": "2024-02-29T12:00:00.123456Z", "inner": {"a": 0.5}}


class Case(NamedTuple):
    """A value as flytekit's user and as a connector has it."""

    python_type: Any
    theirs: Any
    ours: Any
    """What a connector gives back, and gets, where `read` says nothing else."""
    read: Any = ...

    @property
    def read_here(self) -> Any:
        return self.ours if self.read is ... else self.read


CASES: dict[str, Case] = {
    "int": Case(int, 2**63 - 1, 2**63 - 1),
    "float": Case(float, 0.1, 0.1),
    "str": Case(str, "päß", "päß"),
    "empty str": Case(str, "", ""),
    "bool": Case(bool, False, False),
    "datetime": Case(dt.datetime, NOON, NOON),
    "date": Case(dt.date, dt.date(2024, 1, 2), dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)),
    "timedelta": Case(dt.timedelta, dt.timedelta(days=-1, microseconds=5), dt.timedelta(days=-1, microseconds=5)),
    "None": Case(type(None), None, None),
    "optional value": Case(int | None, 3, 3),
    "optional None": Case(int | None, None, None),
    "union's int": Case(int | str, 3, 3),
    "union's str": Case(int | str, "3", "3"),
    "union's list": Case(list[int] | str | None, [3], [3]),
    "enum": Case(Colour, Colour.BLUE, Colour.BLUE, "blue"),
    "list": Case(list[int], [1, 2], [1, 2]),
    "empty list": Case(list[int], [], []),
    "nested list": Case(list[list[str]], [["a"], []], [["a"], []]),
    "list of optionals": Case(list[int | None], [1, None], [1, None]),
    "dict of ints": Case(dict[str, int], {"a": 1}, {"a": 1}),
    "empty dict of ints": Case(dict[str, int], {}, {}),
    "nested dict of ints": Case(dict[str, dict[str, list[int]]], {"a": {"b": [1]}}, {"a": {"b": [1]}}),
    "dict of optionals": Case(dict[str, int | None], {"a": None, "b": 1}, {"a": None, "b": 1}),
    "dict of datetimes": Case(dict[str, dt.datetime], {"a": NOON}, {"a": NOON}),
    "dict of ints to strs": Case(dict[int, str], {1: "one"}, {1: "one"}),
    "dict": Case(dict, {"a": 1, "b": [None, True, {"c": 0.5}]}, {"a": 1, "b": [None, True, {"c": 0.5}]}),
    "list of dicts": Case(list[dict], [{"a": 1}, {"b": "x"}], [{"a": 1}, {"b": "x"}]),  # type: ignore[type-arg]
    "dataclass": Case(Outer, OUTER, OUTER, OUTER_DATA),
    "list of dataclasses": Case(list[Outer], [OUTER], [OUTER], [OUTER_DATA]),
    "dict of dataclasses": Case(
        dict[str, Inner], {"a": Inner(1, 0.5)}, {"a": Inner(1, 0.5)}, {"a": {"n": 1, "x": 0.5}}
    ),
    "dataclass from a dict": Case(Inner, Inner(1, 0.5), {"n": 1, "x": 0.5}),
    "optional dataclass": Case(Inner | None, Inner(1, 0.5), Inner(1, 0.5), {"n": 1, "x": 0.5}),
    "pydantic model": Case(Model, MODEL, MODEL, MODEL_DATA),
    "list of pydantic models": Case(list[Model], [MODEL], [MODEL], [MODEL_DATA]),
    "error": Case(FlyteError, FlyteError("no luck", "n0"), ErrorValue("no luck", "n0")),
    "file": Case(FlyteFile, FlyteFile("s3://b/f"), File("s3://b/f")),
    "file of a format": Case(CSV, CSV("s3://b/f.csv"), File("s3://b/f.csv", "csv")),
    "directory": Case(FlyteDirectory, FlyteDirectory("s3://b/d"), Directory("s3://b/d")),
    "list of files": Case(list[FlyteFile], [FlyteFile("s3://b/f")], [File("s3://b/f")]),
    "dict of files": Case(dict[str, FlyteFile], {"a": FlyteFile("s3://b/f")}, {"a": File("s3://b/f")}),
    "dataclass of files": Case(
        Files,
        Files(FlyteFile("s3://b/f"), FlyteDirectory("s3://b/d")),
        OurFiles(File("s3://b/f"), Directory("s3://b/d")),
        {"file": {"path": "s3://b/f"}, "folder": {"path": "s3://b/d"}},
    ),
    "structured dataset": Case(
        FlytekitDataset, FlytekitDataset(uri="s3://b/t", file_format="csv"), StructuredDataset("s3://b/t", "csv")
    ),
    "structured dataset with columns": Case(
        TABLE,
        FlytekitDataset(uri="s3://b/t", file_format="parquet"),
        StructuredDataset("s3://b/t", "parquet", (("a", int), ("b", list[str]))),
    ),
    "schema": Case(
        OLD_TABLE,
        OLD_TABLE(local_path="unused", remote_path="s3://b/s", supported_mode=SchemaOpenMode.READ),
        Schema("s3://b/s", (("a", int), ("b", dt.datetime))),
    ),
}

needs_numpy = pytest.mark.skipif(
    find_spec("numpy") is None, reason="flytekit declares columns only where NumPy is installed"
)
each_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[needs_numpy] if name == "structured dataset with columns" else [])
        for name, case in CASES.items()
    ],
)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[FlyteContext]:
    """A context that keeps what flytekit writes in a folder of the test."""
    files = FileAccessProvider(tmp_path / "sandbox", str(tmp_path / "raw"))
    with FlyteContextManager.with_context(FlyteContextManager.current_context().with_file_access(files)) as inner:
        yield inner


def written_by_flytekit(context: FlyteContext, value: Any, python_type: Any) -> Any:
    literal = TypeEngine.to_literal(context, value, python_type, TypeEngine.to_literal_type(python_type))
    return literal.to_flyte_idl()


def read_by_flytekit(context: FlyteContext, literal: Any, python_type: Any) -> Any:
    return TypeEngine.to_python_value(context, FlytekitLiteral.from_flyte_idl(literal), python_type)


def comparable(value: Any) -> Any:
    """Return what counts of flytekit's references, which compare by identity or by a local path."""
    match value:
        case FlyteFile() | FlyteDirectory():
            return value.remote_source if value._remote_source else value.path
        case FlytekitDataset():
            return value.literal.uri if value.literal else value.uri, value.file_format
        case FlyteSchema():
            return value.remote_path, value.columns()
        case Files():
            return comparable(value.file), comparable(value.folder)
        case list():
            return [comparable(item) for item in value]
        case dict():
            return {key: comparable(item) for key, item in value.items()}
    return value


@each_case
def test_what_flytekit_writes_is_read_here(context: FlyteContext, case: Case) -> None:
    back = to_python(written_by_flytekit(context, case.theirs, case.python_type))
    assert back == case.read_here
    assert type(back) is type(case.read_here)


@each_case
def test_what_is_written_here_by_type_is_read_by_flytekit(context: FlyteContext, case: Case) -> None:
    literal_type = TypeEngine.to_literal_type(case.python_type).to_flyte_idl()
    back = read_by_flytekit(context, to_literal(case.ours, literal_type), case.python_type)
    assert comparable(back) == comparable(case.theirs)


@each_case
def test_what_is_written_here_without_a_type_is_read_by_flytekit(context: FlyteContext, case: Case) -> None:
    back = read_by_flytekit(context, to_literal(case.ours), case.python_type)
    assert comparable(back) == comparable(case.theirs)


@each_case
def test_what_is_written_here_by_type_is_what_flytekit_writes(context: FlyteContext, case: Case) -> None:
    literal_type = TypeEngine.to_literal_type(case.python_type).to_flyte_idl()
    assert to_literal(case.ours, literal_type) == written_by_flytekit(context, case.theirs, case.python_type)


@pytest.mark.parametrize(
    ("python_type", "value", "back"),
    [
        (dict, {"a": 1, "b": [None, True, "x"], "c": 0.5}, {"a": 1, "b": [None, True, "x"], "c": 0.5}),
        (Inner, Inner(1, 0.5), {"n": 1, "x": 0.5}),
        (Model, MODEL, MODEL_DATA),
    ],
)
def test_structs_of_older_flytekits_are_read_here(
    context: FlyteContext, monkeypatch: pytest.MonkeyPatch, python_type: Any, value: Any, back: Any
) -> None:
    monkeypatch.setenv("FLYTE_USE_OLD_DC_FORMAT", "true")
    monkeypatch.setattr(TypeEngine, "_LITERAL_CACHE", {}, raising=False)  # the first 1.16 has none yet
    literal = written_by_flytekit(context, value, python_type)
    assert literal.scalar.WhichOneof("value") == "generic"
    assert to_python(literal) == back


@pytest.mark.parametrize(("python_type", "value"), [(dict, {"a": 1}), (Inner, Inner(1, 0.5)), (Model, MODEL)])
def test_generic_structs_written_here_are_read_by_flytekit(context: FlyteContext, python_type: Any, value: Any) -> None:
    literal_type = TypeEngine.to_literal_type(python_type).to_flyte_idl()
    literal_type.ClearField("annotation")  # how flytekit declared them before 1.14
    literal = to_literal(value, literal_type)
    assert literal.scalar.WhichOneof("value") == "generic"
    assert read_by_flytekit(context, literal, python_type) == value


def test_a_protobuf_struct_passes_both_ways(context: FlyteContext) -> None:
    struct = Struct()
    struct.update({"a": [1, {"b": None}]})
    written = written_by_flytekit(context, struct, Struct)
    assert to_python(written) == {"a": [1, {"b": None}]}
    literal_type = TypeEngine.to_literal_type(Struct).to_flyte_idl()
    assert to_literal({"a": [1, {"b": None}]}, literal_type) == written
    assert read_by_flytekit(context, to_literal(struct), Struct) == struct


def test_a_pickle_is_a_file_that_names_where_it_is(context: FlyteContext, tmp_path: Path) -> None:
    literal = written_by_flytekit(context, {1, 2}, set)
    value = to_python(literal)
    assert value == File(literal.scalar.blob.uri, "PythonPickle")
    assert value.uri.startswith(str(tmp_path))
    assert read_by_flytekit(context, to_literal(value), set) == {1, 2}


def test_a_dict_that_flytekit_had_to_pickle_is_a_file(context: FlyteContext, tmp_path: Path) -> None:
    python_type = Annotated[dict, OrderedDict(allow_pickle=True)]
    value = to_python(written_by_flytekit(context, {"a": {1, 2}}, python_type))
    assert value.format == "PythonPickle"
    assert value.uri.startswith(str(tmp_path))


def test_a_file_and_a_folder_on_disk_are_found_by_their_uri(context: FlyteContext, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "f.txt").write_text("x")
    file = to_python(written_by_flytekit(context, FlyteFile(str(folder / "f.txt")), FlyteFile))
    assert Path(file.uri).read_text() == "x"
    directory = to_python(written_by_flytekit(context, FlyteDirectory(str(folder)), FlyteDirectory))
    assert (Path(directory.uri) / "f.txt").read_text() == "x"


def test_a_table_that_flytekit_wrote_is_found_by_its_uri_and_read_from_there(
    context: FlyteContext, tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, with which flytekit writes tables, is not installed")
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow, with which flytekit writes tables, is not installed"
    )
    table = pyarrow.table({"a": [1, 2]})
    dataset = to_python(written_by_flytekit(context, table, pyarrow.Table))
    assert dataset.format == "parquet"
    assert parquet.read_table(dataset.uri) == table
    folder = tmp_path / "table"
    folder.mkdir()
    parquet.write_table(table, folder / "part.parquet")
    ours = to_literal(StructuredDataset(str(folder), "parquet"))
    assert read_by_flytekit(context, ours, pyarrow.Table) == table
