"""What is to be run: the request that the engine would send."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteidl.admin import agent_pb2
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import Variable
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from connector_core.cli.running.declared import as_declared
from connector_core.cli.running.given import (
    Given,
    as_file,
    from_json,
    read_bytes,
    read_object,
    read_pairs,
    read_text,
    read_value,
)
from connector_core.cli.running.templates import make_template, read_template
from connector_core.errors import LiteralError, SettingsError
from connector_core.likeness import alike
from connector_core.literals import to_literal
from connector_core.literals.describe import described
from connector_core.task import TaskCategory

_Values = dict[str, Given | Literal]


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line says is to be run; see the options of `connector-host run`."""

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
            raise SettingsError(f"--inputs: {file} is no LiteralMap in protobuf's JSON form: {error}") from None
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
