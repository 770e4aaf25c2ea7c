"""The program itself: what it says of its commands, how they are declared to typer, and what that does not cost."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from connector_core.cli.app import COMMANDS, run
from connector_core.cli.options import ALL_FLAGS
from connector_core.metrics import core_version
from connector_core.settings import Settings
from connector_core.tables import described
from tests.support.environments import clean_environment

CONNECTOR_HOST = str(Path(sys.executable).with_name("connector-host"))


def connector_host(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in a process of its own."""
    environment = {**clean_environment(), **variables}
    return subprocess.run(
        [CONNECTOR_HOST, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def imported(*arguments: str) -> set[str]:
    """Run the program and return the modules that it has imported."""
    program = "import sys; from connector_core.cli.app import run; run(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def sections(shown: str) -> Mapping[str, str]:
    """Return the sections of a help text by their headings."""
    parts = [part.partition(":\n") for part in shown.split("\n\n")]
    return {heading: text for heading, colon, text in parts if colon and heading.isalpha()}


def test_help_says_in_a_whole_sentence_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = sections(capsys.readouterr().out)["Commands"]
    assert [line.split()[0] for line in listed.splitlines() if line[2] != " "] == list(COMMANDS)
    assert "..." not in listed
    assert f"{listed.rstrip()}\n".count(".\n") == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_names_what_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: connector-host {command} [OPTIONS]")
    assert "--help" in sections(shown)["Options"]
    assert "<" not in shown.partition("Options:")[0]


def test_help_has_arguments_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: connector-host run [OPTIONS] [TASK_TYPE] [ARGV]...\n")
    assert sections(shown)["Arguments"].splitlines() == [
        "  [TASK_TYPE]  The task type: NAME, or NAME@VERSION.",
        "  [ARGV]...    A container's command, after `--`.",
    ]
    assert run(["get", "-h"]) == 0
    assert capsys.readouterr().out.startswith("Usage: connector-host get [OPTIONS] HANDLE\n")


@pytest.mark.parametrize(("given", "hint"), [("srve", " Did you mean 'serve'?"), ("zzz", "")])
def test_a_command_that_there_is_not_is_a_usage_error(
    given: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([given]) == 2
    assert f"No such command '{given}'.{hint}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--prot", "1"], "No such option: --prot"),
        (["serve", "somewhere"], "unexpected extra argument"),
        (["get"], "Missing argument 'HANDLE'"),
        (["get", "x", "--interval", "soon"], "Invalid value for '--interval'"),
        (["get", "x", "--interval", "0"], "Invalid value for '--interval': 0 is too short: 0.05 seconds or more."),
        (["get", "x", "--interval", "nan"], "Invalid value for '--interval'"),
        (["install"], "name what to install"),
    ],
)
def test_what_is_not_an_option_or_has_an_impossible_value_is_a_usage_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert message in capsys.readouterr().err


def test_without_a_command_the_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "Commands:\n" in shown.out + shown.err


def test_the_version_comes_with_the_program_s_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"connector-host {core_version()}\n"


@pytest.mark.parametrize("option", ["--prometheus-port", "--prometheus_port", "--http_port"])
def test_options_may_be_spelt_with_underscores_and_as_today_s_command_lines_have_them(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", option, "99999"]) == 2
    assert capsys.readouterr().err == "connector-host: --http-port: must be at most 65535\n"


def test_settings_that_are_flags_say_so_where_they_are_declared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    options = sections(capsys.readouterr().out)["Options"]
    for name, field in described(Settings).items():
        assert (f"--{name.replace('_', '-')}" in options.replace(",", " ").split()) == (field.flag is not None), name
    assert "port" in ALL_FLAGS


def test_a_start_imports_neither_rich_nor_pydantic_nor_other_commands() -> None:
    modules = imported("get", "no handle", "--interval", "1", "--config", "nowhere.toml")
    assert {"typer", "connector_core.cli.run"} <= modules
    assert modules & {"pydantic", "rich", "click", "connector_core.cli.packages.install"} == set()


def test_values_come_as_they_are_given_whatever_typer_does_with_them(tmp_path: Path) -> None:
    """What keeps typer from coercing values must not keep it from the values themselves: lists, switches, defaults."""
    (tmp_path / "settings.toml").write_text("port = 'none'\n")
    shown = connector_host("list", "--json", "--modules", "a", "--modules", "b", "--allow-plugin", "a")
    assert '"name": "a"' in shown.stdout
    assert '"name": "b"' in shown.stdout
    assert (
        "settings.toml: must be a whole number"
        in connector_host("list", "--config", str(tmp_path / "settings.toml")).stderr
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("connector-host un", {"uninstall"}),
        ("connector-host serve --prom", {"--prometheus-port"}),
        ("connector-host srve --p", set()),
    ],
)
def test_shells_can_complete_commands_and_options(line: str, offered: set[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = connector_host(**words, _CONNECTOR_HOST_COMPLETE="complete_bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == offered


def in_a_shell(shell: str, *arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run the program in a shell, which it knows by its parent process."""
    command = f"{CONNECTOR_HOST} {' '.join(arguments)}; exit $?"  # more than one command: the shell stays the parent
    environment = {**clean_environment(), "HOME": str(home), "SHELL": f"/bin/{shell}"}
    return subprocess.run(
        [shell, "-c", command], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_completion_can_be_shown_and_installed(tmp_path: Path) -> None:
    shown = in_a_shell("bash", "--show-completion", home=tmp_path)
    assert "complete -o default -F _connector_host_completion connector-host" in shown.stdout
    done = in_a_shell("bash", "--install-completion", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bash completion installed in" in done.stdout
    (script,) = tmp_path.glob(".bash_completions/*")
    assert "_CONNECTOR_HOST_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
