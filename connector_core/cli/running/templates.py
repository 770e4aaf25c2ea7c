"""Task templates: out of files as flytekit serialises tasks, or made up from what the command line says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from flyteidl.admin.task_pb2 import TaskSpec
from flyteidl.core.identifier_pb2 import TASK, Identifier
from flyteidl.core.tasks_pb2 import Container, Sql, TaskTemplate
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from connector_core.cli.running.given import read_bytes
from connector_core.errors import SettingsError
from connector_core.task import TaskCategory

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
        raise SettingsError(f"--template: {file} is no {kind} in protobuf's JSON form: {error}") from None


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
