"""The order of a run: the request that the engine would send, from a task template or from what the command line says."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flyteidl.admin import agent_pb2
from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.identifier_pb2 import (
    TASK,
    Identifier,
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import Container, Sql, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from connector_core.cli.running.inputs import (
    Given,
    as_declared,
    as_file,
    from_json,
    read_bytes,
    read_object,
    read_pairs,
    read_text,
    read_value,
)
from connector_core.errors import LiteralError, SettingsError
from connector_core.literals import to_literal
from connector_core.literals.describe import described
from connector_core.task import TaskCategory
from connector_core.texts import alike

_Values = dict[str, Given | Literal]


@dataclass(frozen=True, slots=True)
class Order:
    """The task that the command line describes; see the options of `connector-host run`."""

    task_type: str | None = None
    argv: Sequence[str] = ()
    input: Sequence[str] = ()
    file: Sequence[str] = ()
    inputs: Path | None = None
    sql: str | None = None
    custom: str | None = None
    template: Path | None = None

    def to_request(self) -> agent_pb2.CreateTaskRequest:
        """Return the request, of an execution that nothing else is part of; its output prefix is left out.

        Raises:
            SettingsError: something that was given cannot be used.
        """
        template = self._template()
        inputs = _literals(self._values(template.interface.inputs.variables), template)
        request = agent_pb2.CreateTaskRequest(template=template, inputs=inputs)
        request.task_execution_metadata.task_execution_id.CopyFrom(_execution_id(template))
        return request

    def places(self) -> list[str]:
        """Return the URIs of the files and folders that are named with `--file`."""
        return [as_file(place).uri for place in read_pairs("file", self.file).values()]

    def _template(self) -> TaskTemplate:
        if self.template is not None:
            return self._read_template(self.template)
        if self.task_type is None:
            raise SettingsError(
                "nothing says what to run: give a TASK_TYPE (connector-host list has them) or --template"
            )
        if self.sql is not None and self.argv:
            raise SettingsError("a task has either SQL or a command: leave out --sql or what follows `--`")
        custom = None if self.custom is None else read_object("custom", read_text("custom", self.custom))
        sql = None if self.sql is None else read_text("sql", self.sql)
        return make_template(parse_category(self.task_type), sql=sql, custom=custom, argv=self.argv)

    def _read_template(self, file: Path) -> TaskTemplate:
        others = {"--sql": self.sql, "--custom": self.custom, "a command": self.argv}
        if given := [name for name, value in others.items() if value]:
            raise SettingsError(f"--template says all about the task, so leave out {' and '.join(given)}")
        template = read_template(file)
        own = str(category_of(template))
        if self.task_type not in (None, own):
            raise SettingsError(f"{file} is a task of the type {own!r} and not {self.task_type!r}: leave TASK_TYPE out")
        return template

    def _values(self, declared: Mapping[str, Variable]) -> _Values:
        values: _Values = {} if self.inputs is None else _read_inputs(self.inputs, declared)
        files = read_pairs("file", self.file)
        inputs = read_pairs("input", self.input)
        if twice := sorted(files.keys() & inputs.keys()):
            raise SettingsError(f"{twice[0]} is given twice, as --input and as --file")
        values |= {name: read_value(f"input {name}", text) for name, text in inputs.items()}
        values |= {name: Given(as_file(place)) for name, place in files.items()}
        return values


def parse_category(text: str) -> TaskCategory:
    """Read a task type.

    Raises:
        SettingsError: it has another form than NAME or NAME@VERSION.
    """
    try:
        return TaskCategory.parse(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def category_of(template: TaskTemplate) -> TaskCategory:
    """Return a template's task category."""
    return TaskCategory(template.type, template.task_type_version)


def _read_inputs(file: Path, declared: Mapping[str, Variable]) -> _Values:
    """Read a LiteralMap, or a JSON object of values by name."""
    data = read_bytes("inputs", file)
    if file.suffix != ".json" and data.lstrip()[:1] != b"{":
        try:
            return dict(LiteralMap.FromString(data).literals)
        except DecodeError:
            raise SettingsError(f"--inputs: {file} is neither JSON nor a LiteralMap of flyteidl") from None
    values = read_object("inputs", data.decode(errors="replace"))
    if values.keys() == {"literals"} and "literals" not in declared:
        try:
            return dict(json_format.Parse(json.dumps(values), LiteralMap()).literals)
        except json_format.ParseError as error:
            raise SettingsError(f"--inputs: {file} is not a LiteralMap in protobuf's JSON form: {error}") from None
    return {name: Given(from_json(value)) for name, value in values.items()}


def _literals(values: _Values, template: TaskTemplate) -> LiteralMap:
    declared = template.interface.inputs.variables
    literals = LiteralMap()
    for name, value in values.items():
        if template.HasField("interface") and name not in declared:
            raise _unknown_input(name, declared)
        literals.literals[name].CopyFrom(_literal(name, value, declared[name].type if name in declared else None))
    for name, variable in declared.items():
        if name not in values:
            literals.literals[name].CopyFrom(_left_out(name, variable.type))
    return literals


def _literal(name: str, value: Given | Literal, literal_type: LiteralType | None) -> Literal:
    if isinstance(value, Literal):
        return value
    try:
        if literal_type is None:
            return to_literal(value.value)
        return to_literal(as_declared(value, literal_type), literal_type)
    except LiteralError as error:
        raise SettingsError(f"input {name!r}: {error}") from None


def _left_out(name: str, literal_type: LiteralType) -> Literal:
    """Return what an optional input is when nothing is given."""
    try:
        return to_literal(None, literal_type)
    except LiteralError:
        raise SettingsError(
            f"the task takes an input {name!r}, {described(literal_type)}: give it with --input {name}=..."
        ) from None


def _unknown_input(name: str, declared: Mapping[str, Any]) -> SettingsError:
    near = alike(name, declared)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return SettingsError(f"the task takes no input {name!r}{hint}; it takes {', '.join(sorted(declared)) or 'none'}")


def _execution_id(template: TaskTemplate) -> TaskExecutionIdentifier:
    execution = WorkflowExecutionIdentifier(project="local", domain="local", name=f"run-{uuid.uuid4().hex[:12]}")
    node = NodeExecutionIdentifier(node_id="n0", execution_id=execution)
    return TaskExecutionIdentifier(task_id=template.id, node_execution_id=node, retry_attempt=0)


M = TypeVar("M", bound=Message)


def read_template(file: Path) -> TaskTemplate:
    """Read a TaskTemplate, or the one in a TaskSpec: JSON, or else protobuf's bytes.

    Raises:
        SettingsError: the file cannot be read, or is neither.
    """
    data = read_bytes("template", file)
    is_json = file.suffix == ".json" or data.lstrip()[:1] == b"{"
    template = _from_json(file, data) if is_json else _from_bytes(data)
    if template is None or not template.type:
        raise SettingsError(
            f"--template: {file} is neither a TaskTemplate nor a TaskSpec (of flyteidl) with a task type: "
            "`pyflyte serialize` and flytekit's get_serializable() make such files"
        )
    return template


def make_template(
    category: TaskCategory, *, sql: str | None, custom: dict[str, Any] | None, argv: Sequence[str]
) -> TaskTemplate:
    """Make a template of what was given, which declares no interface.

    Raises:
        SettingsError: `custom` cannot be sent.
    """
    template = TaskTemplate(type=category.name, task_type_version=category.version)
    template.id.CopyFrom(
        Identifier(resource_type=TASK, project="local", domain="local", name=category.name, version="0")
    )
    if sql is not None:
        template.sql.CopyFrom(Sql(statement=sql, dialect=Sql.ANSI))
    if argv:
        template.container.CopyFrom(Container(command=argv[:1], args=argv[1:]))
    if custom is not None:
        try:
            json_format.ParseDict(custom, template.custom)
        except json_format.ParseError as error:
            raise SettingsError(f"--custom cannot be sent: {error}") from None
    return template


def _from_json(file: Path, data: bytes) -> TaskTemplate | None:
    is_spec = b'"template"' in data
    try:
        if is_spec:
            return json_format.Parse(data, TaskSpec()).template
        return json_format.Parse(data, TaskTemplate())
    except json_format.ParseError as error:
        kind = "TaskSpec" if is_spec else "TaskTemplate"
        raise SettingsError(f"--template: {file} is not a {kind} in protobuf's JSON form: {error}") from None


def _from_bytes(data: bytes) -> TaskTemplate | None:
    """Tell the two messages apart by the task's id, which stands one level deeper in a TaskSpec.

    Either can be read as the other without an error: the project of a TaskTemplate's id then passes for the task type in
    a TaskSpec, but never for an id in it.
    """
    spec, template = _parse(TaskSpec, data), _parse(TaskTemplate, data)
    inner = None if spec is None else spec.template
    if inner is not None and inner.id.name and _is_type(inner.type):
        return inner
    if template is not None and _is_type(template.type):
        return template
    return inner if inner is not None and _is_type(inner.type) else None


def _is_type(name: str) -> bool:
    return bool(name) and name.isprintable() and " " not in name


def _parse(kind: type[M], data: bytes) -> M | None:
    try:
        return kind.FromString(data)
    except DecodeError:
        return None
