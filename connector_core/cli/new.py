"""`connector-host new`: write a plugin package from the template."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from importlib_metadata import version
from packaging.version import Version

from connector_core.cli.options import path
from connector_core.errors import SettingsError

TEMPLATE = Path(__file__).parents[1] / "template"

_PREFIX = re.compile("connector[-_]plugin[-_]")


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The plugin's name, such as 'warehouse': the package is connector-plugin-NAME."
        ),
    ],
    task_type: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The task type that it serves. [default: the name]")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="async|sync",
            help="'async' for jobs that go on by themselves, 'sync' for answers at once. [default: async]",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="PATH", callback=path, help="The folder to make the package's folder in.")
    ] = Path(),
) -> int:
    """Write a new plugin package that works from the start, with tests.

    At a terminal, what is not given is asked for. Needs cookiecutter: pip install "connector-core[new]"
    """
    return write_plugin(name, task_type, kind, output)


def write_plugin(name: str, task_type: str | None, kind: str | None, output: Path) -> int:
    """Write the package into `output`, say what comes next and return the exit code.

    What is `None` is asked for, or has a default where nobody sits at the terminal.

    Raises:
        SettingsError: a name or folder cannot be used; nothing has been written.
    """
    if find_spec("cookiecutter") is None:
        print('connector-host: new needs cookiecutter: pip install "connector-core[new]"', file=sys.stderr)
        return 1
    try:
        answers = _answers(_PREFIX.sub("", name, count=1), task_type, kind)
    except typer.Abort:
        print("\nNothing has been written.", file=sys.stderr)
        return 1
    folder = _write(answers, output)
    print(_next_steps(folder, answers))
    return 0


def core_requirement(installed: str) -> str:
    """Return the versions of the core that a plugin written for this one can use: the next minor one may change its face.

    A 1.4 is followed by a 2; before 1 each minor version counts as a major one.
    """
    running = Version(installed)
    oldest = running.public if running.is_prerelease else f"{running.major}.{running.minor}"
    newest = f"0.{running.minor + 1}" if running.major == 0 else f"{running.major + 1}"
    return f">={oldest},<{newest}"


def _answers(name: str, task_type: str | None, kind: str | None) -> dict[str, str]:
    rules = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    if not re.fullmatch(rules["_name_pattern"], name):
        raise SettingsError(
            f"{name!r} cannot be a plugin's name: small letters and digits, in words joined by '-' or '_', "
            f"such as {_near(name)!r}"
        )
    if task_type is None:
        task_type = _ask("Task type", default=name.replace("-", "_"))
    if not re.fullmatch(rules["_task_type_pattern"], task_type):
        raise SettingsError(
            f"{task_type!r} cannot be a task type: letters and digits, in words joined by '_', '-' or '.', "
            f"such as '{name.replace('-', '_')}_query'"
        )
    kinds = rules["kind"]
    if kind is None:
        kind = _ask(f"Kind ({' or '.join(kinds)})", default=kinds[0])
    if kind not in kinds:
        raise SettingsError(
            f"unknown kind {kind!r} of connectors; "
            "write 'async' (jobs that go on by themselves) or 'sync' (one answer at once)"
        )
    return {"name": name, "task_type": task_type, "kind": kind, "_core": core_requirement(version("connector-core"))}


def _near(name: str) -> str:
    """Return a good name that is close to a bad one."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-0123456789") or "warehouse"


def _ask(question: str, default: str) -> str:
    return str(typer.prompt(question, default=default, value_proc=str)) if sys.stdin.isatty() else default


def _write(answers: Mapping[str, str], output: Path) -> Path:
    if not output.is_dir():
        raise SettingsError(f"--output {output}: no such folder; make it first, or choose another")
    try:
        # Rendered beside its place and moved there when it is whole, so that nobody finds half a package.
        with TemporaryDirectory(prefix=".connector-host-new-", dir=output) as scratch:
            rendered = _render(answers, scratch)
            folder = output / rendered.name
            if folder.exists():
                raise SettingsError(f"{folder} is already there: choose another name, or another folder with --output")
            return rendered.rename(folder)
    except OSError as error:
        raise SettingsError(f"cannot write the package into {output}: {error}") from error


def _render(answers: Mapping[str, str], into: str) -> Path:
    # Not `cookiecutter.main`, which wants a home to keep its own records in; containers may have none that is writable.
    from cookiecutter.generate import generate_context, generate_files
    from cookiecutter.prompt import prompt_for_config

    context: dict[str, Any] = generate_context(str(TEMPLATE / "cookiecutter.json"), extra_context=dict(answers))
    context["cookiecutter"] = prompt_for_config(context, no_input=True)
    return Path(generate_files(str(TEMPLATE), context, output_dir=into, accept_hooks=False))


def _next_steps(folder: Path, answers: Mapping[str, str]) -> str:
    install = "pip install" if find_spec("pip") else "uv pip install"  # environments made by uv have no pip
    (module,) = (folder / "src").iterdir()
    first = "client.py" if answers["kind"] == "async" else "connector.py"
    return f"""\
{folder} has a connector of kind {answers["kind"]} for the task type {answers["task_type"]!r}. To try it:

  cd {shlex.quote(str(folder))}
  {install} -e ".[dev]"
  pytest
  mypy src tests
  ruff check
  connector-host list
  connector-host serve

Then begin with {folder / "src" / module.name / first}."""
