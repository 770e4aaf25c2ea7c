"""What a task may ask to run."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core.tasks_pb2 import Container, TaskTemplate
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from connector_core import InvalidInputError, PermissionDeniedError
from connector_plugin_process.command import Command, allowed_executable, command_of
from connector_plugin_process.config import read_config

ECHO = "/bin/echo"


def template(**custom: Any) -> TaskTemplate:
    return ParseDict({"type": "process", "custom": custom}, TaskTemplate())


def command(task: TaskTemplate, inputs: dict[str, Any] | None = None, **settings: Any) -> Command:
    return command_of(
        task, inputs or {}, "s3://bucket/out/0", read_config({"allow": [ECHO], "allow_env": ["*"], **settings})
    )


def test_the_command_is_that_of_the_container() -> None:
    container = Container(command=[ECHO, "a"], args=["b"], image="ignored")
    container.env.add(key="COLOUR", value="blue")
    made = command(TaskTemplate(type="process", container=container))
    assert made.argv == [ECHO, "a", "b"]
    assert made.env["COLOUR"] == "blue"


def test_custom_goes_over_the_container() -> None:
    task = template(argv=[ECHO, "custom"], env={"COLOUR": "red"})
    task.container.CopyFrom(Container(command=["/bin/container"]))
    task.container.env.add(key="COLOUR", value="blue")
    task.container.env.add(key="SIZE", value="big")
    made = command(task)
    assert made.argv == [ECHO, "custom"]
    assert (made.env["COLOUR"], made.env["SIZE"]) == ("red", "big")


@pytest.mark.parametrize(
    ("custom", "complaint"),
    [
        ({}, "no command"),
        ({"argv": []}, "no command"),
        ({"argv": [""]}, "no command"),
        ({"argv": "echo hello"}, "custom.argv is not a list but 'echo hello'"),
        ({"argv": [ECHO, 3]}, r"argv\[1\] is 3.0; it has to be a string"),
        ({"argv": [ECHO, "a\0b"]}, r"argv\[1\] has a NUL"),
        ({"argv": [ECHO], "environment": {}}, "unknown keys environment; it can have argv, env, cwd"),
        ({"argv": [ECHO], "env": ["A=1"]}, "custom.env maps names to strings"),
        ({"argv": [ECHO], "env": {"A": 1}}, "custom.env maps names to strings"),
        ({"argv": [ECHO], "env": {"A=B": "1"}}, "'A=B' is not an environment variable"),
        ({"argv": [ECHO], "env": {"A": "\0"}}, "'A' is not an environment variable"),
        ({"argv": [ECHO], "cwd": "here"}, "'here'; it has to be the absolute path"),
    ],
)
def test_a_malformed_task_is_refused_saying_what_is_wrong(custom: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        command(template(**custom))


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "BASH_ENV",
        "HOME",
        "NODE_OPTIONS",
        "CONNECTOR_PROCESS_JOB",
    ],
)
def test_a_variable_that_changes_what_runs_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        command(template(argv=[ECHO], env={name: "x"}))
    container = TaskTemplate(container=Container(command=[ECHO]))
    container.container.env.add(key=name, value="x")
    with pytest.raises(InvalidInputError, match=name):
        command(container)


def test_a_number_that_is_not_finite_is_the_tasks_mistake() -> None:
    task = template(argv=[ECHO])
    task.custom["cwd"] = float("nan")
    with pytest.raises(InvalidInputError, match="custom cannot be read"):
        command(task)


@pytest.mark.parametrize("name", ["TAR_OPTIONS", "GIT_SSH_COMMAND", "COLOUR"])
def test_no_variable_may_be_set_unless_the_operator_allows_it(name: str) -> None:
    task = template(argv=[ECHO], env={name: "x"})
    with pytest.raises(PermissionDeniedError, match=rf'{name} may not be set.*`allow_env = \["{name}"\]` in \[plugins'):
        command(task, allow_env=[])
    assert command(task, allow_env=[name]).env[name] == "x"
    assert command(task, allow_env=[f"{name[:3]}*"]).env[name] == "x"


def test_the_variables_of_a_container_need_the_same_permission() -> None:
    task = TaskTemplate(container=Container(command=[ECHO]))
    task.container.env.add(key="TAR_OPTIONS", value="x")
    with pytest.raises(PermissionDeniedError, match="TAR_OPTIONS"):
        command(task, allow_env=["COLOUR"])


def test_what_the_operator_refuses_is_an_exception_from_what_is_allowed() -> None:
    task = template(argv=[ECHO], env={"GIT_SSH_COMMAND": "sh"})
    assert command(task, allow_env=["GIT_*"]).env["GIT_SSH_COMMAND"] == "sh"
    with pytest.raises(PermissionDeniedError, match=r"GIT_SSH_COMMAND .*`refuse_env` in .* excepts GIT_SSH\*"):
        command(task, allow_env=["GIT_*"], refuse_env=["GIT_SSH*"])


def test_of_the_hosts_environment_only_a_few_harmless_variables_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "_FSEC_DB_PASSWORD",
        "CONNECTOR_HOST__PORT",
        "CONNECTOR_HOST_PORT",
        "AWS_SECRET_ACCESS_KEY",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, "of the host")
    for name in ("LANG", "TZ", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "Europe/Riga")
    assert command(template(argv=[ECHO]), path="/bin").env == {"PATH": "/bin", "LANG": "C.UTF-8", "TZ": "Europe/Riga"}


def test_inputs_and_output_prefix_are_filled_in() -> None:
    inputs = {
        "text": "two words; $(rm)",
        "count": 3,
        "share": 0.5,
        "is_dry": True,
        "day": dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
    }
    placeholders = [
        "{{.inputs.text}}",
        "--n={{ .inputs.count }}",
        "{{$inputs.share}}",
        "{{.Inputs.is_dry}}",
        "{{.inputs.day}}",
    ]
    made = command(template(argv=[ECHO, *placeholders, "{{.outputPrefix}}/x", "{{.other}}"]), inputs)
    assert made.argv[1:] == [
        *("two words; $(rm)", "--n=3", "0.5", "true", "2024-05-01T00:00:00+00:00"),
        *("s3://bucket/out/0/x", "{{.other}}"),
    ]


def test_an_input_that_does_not_exist_or_has_no_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="asks for an input 'dya'; the task's inputs are: day"):
        command(template(argv=[ECHO, "{{.inputs.dya}}"]), {"day": "x"})
    with pytest.raises(InvalidInputError, match="input 'days' is a list"):
        command(template(argv=[ECHO, "{{.inputs.days}}"]), {"days": []})


def test_an_executable_is_named_by_path_or_by_its_last_part() -> None:
    allow = [Path("/bin/echo"), Path("/usr/bin/env")]
    assert allowed_executable("/bin/echo", allow) == Path("/bin/echo")
    assert allowed_executable("echo", allow) == Path("/bin/echo")
    assert allowed_executable("/bin/../bin/echo", allow) == Path("/bin/echo")


@pytest.mark.parametrize("wanted", ["/bin/sh", "sh", "./echo", "bin/echo", "/bin/echo/", "/bin/", "../echo", "~/echo"])
def test_what_is_not_allowed_is_refused_listing_what_is(wanted: str) -> None:
    with pytest.raises(PermissionDeniedError, match=r"allowed are /bin/echo .*`allow` in \[plugins.process\]"):
        allowed_executable(wanted, [Path("/bin/echo")])


@given(st.text(min_size=1))
def test_nothing_but_the_allowed_names_gets_through(wanted: str) -> None:
    allow = [Path("/bin/echo")]
    if wanted == "echo" or wanted.startswith("/"):
        return
    with pytest.raises(PermissionDeniedError):
        allowed_executable(wanted, allow)


def test_a_name_that_two_allowed_executables_share_has_to_be_written_in_full(tmp_path: Path) -> None:
    allow = [Path("/bin/echo"), tmp_path / "echo"]
    with pytest.raises(PermissionDeniedError, match="several allowed executables"):
        allowed_executable("echo", allow)
    assert allowed_executable(str(tmp_path / "echo"), allow) == tmp_path / "echo"


def test_one_executable_named_twice_is_no_ambiguity() -> None:
    assert allowed_executable("echo", [Path(ECHO), Path(ECHO)]) == Path(ECHO)


def test_a_linked_folder_is_the_same_place_and_the_operators_own_path_is_run(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/tool").touch(0o755)
    (tmp_path / "bin").symlink_to(tmp_path / "usr")
    allowed = tmp_path / "bin/tool"
    assert allowed_executable(str(tmp_path / "usr/tool"), [allowed]) == allowed


def test_another_name_of_an_allowed_multi_call_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "busybox").touch(0o755)
    for applet in ("ls", "sh"):
        (tmp_path / applet).symlink_to("busybox")
    for wanted in ("sh", "busybox"):
        with pytest.raises(PermissionDeniedError):
            allowed_executable(str(tmp_path / wanted), [tmp_path / "ls"])


def test_a_callers_own_link_to_an_allowed_executable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "echo").symlink_to("/bin/echo")
    with pytest.raises(PermissionDeniedError):
        allowed_executable(str(tmp_path / "echo"), [Path(ECHO)])


def test_a_multi_call_program_is_run_under_its_allowed_name() -> None:
    assert command(template(argv=["echo", "hi"])).argv[0] == ECHO


def test_the_working_directory_has_to_be_in_an_allowed_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data/inside", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "data/link").symlink_to(outside)
    folders = [str(tmp_path / "data")]
    assert command(template(argv=[ECHO], cwd=str(inside)), folders=folders).cwd == inside
    assert command(template(argv=[ECHO]), folders=folders).cwd is None
    for wanted in (outside, tmp_path / "data/../outside", tmp_path / "data/link", tmp_path):
        with pytest.raises(PermissionDeniedError, match="`folders` in"):
            command(template(argv=[ECHO], cwd=str(wanted)), folders=folders)
    with pytest.raises(PermissionDeniedError, match="none, so leave cwd out"):
        command(template(argv=[ECHO], cwd=str(inside)))
    with pytest.raises(InvalidInputError, match="not a folder on this host"):
        command(template(argv=[ECHO], cwd=str(inside / "missing")), folders=folders)
