"""Writes what the reference says of the code between the markers of its pages; run `python docs/generate.py`.

A page has `<!-- generated: NAME -->` and `<!-- end -->`, and everything between them comes from here. What stands around
them is written by hand. `tests/docs/test_reference.py` fails when a page no longer says what the code does.
"""

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

import connector_core
from connector_core import errors, hookspecs
from connector_core.cli.app import exit_code, program
from connector_core.cli.commands import argument_usage, is_argument
from connector_core.http.gateway import derive_routes
from connector_core.http.gateway.refusals import HTTP_STATUS
from connector_core.metrics import Metrics
from connector_core.metrics.tallies import TallyKey
from connector_core.operations import OPERATIONS
from connector_core.protocol.foreign_codes import HTTP_STATUS_CODES
from connector_core.protocol.statuses import STATUS_CODES, status_of
from connector_core.secrets import SecretStr
from connector_core.services.generations import Generations
from connector_core.settings import ENV_PREFIX, LimitSettings, LocationSettings, Settings
from connector_core.tables import Field, Table, described

REFERENCE = Path(__file__).with_name("reference")
_REGION = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def hooks() -> str:
    """Each hookspec's signature and docstring."""
    return "\n".join(
        f'## {spec.__name__}\n\n```python title="connector_core/hookspecs.py"\n{signature(spec)}\n```\n\n{_paragraphs(spec)}\n'
        for spec in hookspec_functions()
    )


def hookspec_functions() -> list[Callable[..., Any]]:
    """Return the functions that are hookspecs."""
    return [value for value in vars(hookspecs).values() if hasattr(value, f"{hookspecs.PROJECT}_spec")]


def signature(function: Callable[..., Any]) -> str:
    """Return a function's first line as its source has it, without remarks."""
    (definition,) = ast.parse(inspect.getsource(function)).body
    assert isinstance(definition, ast.FunctionDef)
    assert definition.returns is not None
    return f"def {definition.name}({ast.unparse(definition.args)}) -> {ast.unparse(definition.returns)}:"


def arguments() -> str:
    """What the host offers to each method of a connector."""
    rows = (
        [f"`{name}`", ", ".join(map(_code, operation.arguments)) or "nothing"] for name, operation in OPERATIONS.items()
    )
    return _table(["method", "may ask for"], rows)


def settings() -> str:
    """Every setting: key, flag, variable, default, meaning."""
    flags = setting_flags()
    rows = (
        [
            _code(key),
            ", ".join(map(_code, flags.get(key, []))) or "-",
            _code(f"{ENV_PREFIX}{key.upper().replace('.', '__')}"),
            _code(as_toml(field.default)) if field.default is not None else "not set",
            field.description,
        ]
        for key, field in setting_fields(Settings)
    )
    return _table(["key", "flag", "environment variable", "default", "meaning"], rows)


def limits() -> str:
    """What a plugin's or connector's table of limits may have."""
    rows = ([_code(key), f"as `{key}` above"] for key, _field in setting_fields(LimitSettings))
    return _table(["key in `[limits.NAME]`", "meaning"], rows)


def locations() -> str:
    """What a location's table may have."""
    rows = (
        [_code(key), _code(as_toml(field.default)) if field.default is not None else "not set", field.description]
        for key, field in setting_fields(LocationSettings)
    )
    return _table(["key in `[locations.NAME]`", "default", "meaning"], rows)


def setting_fields(table: type[Table], prefix: str = "") -> Iterable[tuple[str, Field]]:
    """Yield every setting's key, such as `deadlines.get`, and its field; a table's settings in place of the table."""
    for name, field in described(table).items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Table):
            yield from setting_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def setting_flags() -> dict[str, list[str]]:
    """Return the flags of `serve` by setting."""
    serve = commands()["serve"]
    return {param.name: [*param.opts, *param.secondary_opts] for param in serve.params if param.name != "config"}


def as_toml(value: object) -> str:
    """Write a setting's value as the settings file has it."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, SecretStr):  # a default keeps no secret
        return json.dumps(value.get_secret_value())
    return json.dumps(str(value) if isinstance(value, Path) else value)


def author_errors() -> str:
    """The errors that connector authors raise."""
    return _errors(cls for cls in error_classes() if is_for_authors(cls))


def host_errors() -> str:
    """The errors that the host raises while it answers calls."""
    return _errors(cls for cls in error_classes() if not is_for_authors(cls) and not issubclass(cls, errors.SetupError))


def setup_errors() -> str:
    """The errors that stop the start."""
    rows = (
        [_code(cls.__name__), _code(cls.__bases__[0].__name__), _summary(cls), cls.fault.value, str(exit_code(cls()))]
        for cls in error_classes()
        if issubclass(cls, errors.SetupError)
    )
    return _table(["error", "is a", "meaning", "fault", "exit code"], rows)


def exceptions() -> str:
    """What plugin code raises that is no `ConnectorError`."""
    chosen = ((cls, code) for cls, code in STATUS_CODES.items() if not issubclass(cls, errors.ConnectorError))
    return _table(["raised", "answered"], ([_code(cls.__name__), _code(code.name)] for cls, code in chosen))


def http_statuses() -> str:
    """What a backend's HTTP status is answered as."""
    rows = ([str(status), _code(code.name)] for status, code in HTTP_STATUS_CODES.items())
    return _table(["HTTP status", "answered"], rows)


def error_classes() -> list[type[errors.ConnectorError]]:
    """Return every class of error, in the order of the module."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    return [cls for cls in classes if issubclass(cls, errors.ConnectorError)]


def is_for_authors(cls: type) -> bool:
    """Whether an error is part of the package's own face."""
    return cls.__name__ in connector_core.__all__


def _errors(classes: Iterable[type[errors.ConnectorError]]) -> str:
    rows = (
        [
            _code(cls.__name__),
            _code(cls.__bases__[0].__name__),
            _summary(cls),
            cls.fault.value,
            "yes" if cls.retryable else "no",
            _code(status_of(cls(), "").code.name),
        ]
        for cls in classes
    )
    return _table(["error", "is a", "meaning", "fault", "worth another try", "gRPC status"], rows)


def metrics() -> str:
    """Every metric: its series, type, labels and meaning."""
    rows = []
    for family in metric_families():
        series = dict.fromkeys(one.name for one in family.samples if not one.name.endswith("_created"))
        labels = dict.fromkeys(label for one in family.samples for label in one.labels if label != "le")
        bounds = dict.fromkeys(one.labels["le"] for one in family.samples if "le" in one.labels)
        meaning = f"{family.documentation} Buckets: {', '.join(bounds)}." if bounds else family.documentation
        cells = [", ".join(map(_code, series)), family.type, ", ".join(map(_code, labels)) or "none", meaning]
        rows.append(cells)
    return _table(["series", "type", "labels", "meaning"], rows)


def metric_families() -> list[Any]:
    """Return every metric of a host, with a sample of each series."""
    metrics = Metrics()
    metrics.requests.of(TallyKey("task_type", "operation")).ended("error_code", 0)
    metrics.requests.input_size("task_type").observe(0)
    for gauge in metrics.gauges:
        gauge.labels(*gauge.label_names)
    return list(metrics.registry.collect())


def routes() -> str:
    """The routes of the JSON gateway."""
    rows = []
    for route in sorted(
        derive_routes(Generations(Settings(protocols="both")).descriptors()),
        key=lambda route: (route.is_about_tasks, route.template.text),
    ):
        method = route.method
        forms = [
            f"{'a stream of ' if is_stream else ''}`{message.name}`"
            for is_stream, message in (
                (method.client_streaming, method.input_type),
                (method.server_streaming, method.output_type),
            )
        ]
        call = f"`{method.containing_service.name}.{method.name}`"
        rows.append(
            [_code(f"{route.verb} {route.template.text}"), call, *forms, "no" if route.is_about_tasks else "yes"]
        )
    return _table(["route", "calls", "takes", "answers", "open"], rows)


def gateway_statuses() -> str:
    """The HTTP status of each gRPC code."""
    rows = ([_code(code.name), str(code.value[0]), str(status)] for code, status in HTTP_STATUS.items())
    return _table(["code", "number", "HTTP status"], rows)


def cli() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_command(name, command) for name, command in commands().items())


def commands() -> Mapping[str, Any]:
    """Return the commands by name."""
    group = program()
    context = typer.Context(group)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def _command(name: str, command: Any) -> str:
    arguments = [argument_usage(param) for param in command.params if is_argument(param)]
    usage = " ".join([f"connector-host {name}", "[OPTIONS]", *arguments])
    rows = [[_code(option(param)), _meaning(param)] for param in command.params if not param.hidden]
    head = f"## connector-host {name}\n\n`{usage}`\n\n{inspect.cleandoc(command.help)}\n\n"
    return head + _table(["option", "meaning"], rows)


def option(param: Any) -> str:
    """Return how an option is written, without its value, or an argument's name."""
    if is_argument(param):
        return argument_usage(param)
    spellings = ", ".join(param.opts)
    return f"{spellings} / {', '.join(param.secondary_opts)}" if param.secondary_opts else spellings


def _meaning(param: Any) -> str:
    """Return a parameter's help with what typer's own help adds to it, in words of one form in all versions of typer."""
    has_default = param.show_default and not is_argument(param) and param.default not in (None, False)
    default = f" [default: {param.default}]" if has_default else ""
    return f"{param.help}{default}{' May be given several times.' if param.multiple else ''}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _summary(cls: type) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())


def _paragraphs(function: Callable[..., Any]) -> str:
    return inspect.cleandoc(function.__doc__ or "")


CONTENT: Mapping[str, Callable[[], str]] = {
    "hooks": hooks,
    "arguments": arguments,
    "settings": settings,
    "limits": limits,
    "locations": locations,
    "author-errors": author_errors,
    "host-errors": host_errors,
    "setup-errors": setup_errors,
    "exceptions": exceptions,
    "http-statuses": http_statuses,
    "metrics": metrics,
    "routes": routes,
    "gateway-statuses": gateway_statuses,
    "cli": cli,
}


def generated(page: str) -> str:
    """Return a page's text with everything between its markers made anew."""
    return _REGION.sub(lambda region: f"{region[1]}\n{CONTENT[region['name']]()}\n{region[3]}", page)


def pages() -> list[Path]:
    """Return the pages that have markers."""
    return [page for page in sorted(REFERENCE.glob("*.md")) if _REGION.search(page.read_text())]


if __name__ == "__main__":
    for page in pages():
        page.write_text(generated(page.read_text()))
        print(page)
