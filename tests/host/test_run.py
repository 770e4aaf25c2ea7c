"""`connector-host run`, `get`, `logs` and `delete` in processes of their own, as somebody at a shell uses them."""

import collections
import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.service.agent_pb2_grpc import (
    AgentMetadataServiceServicer,
    add_AgentMetadataServiceServicer_to_server,
)
from google.protobuf import json_format

from connector_core import TaskCategory
from connector_core.cli.running.host_client import CallError, connected
from connector_core.cli.running.job import Job
from connector_core.errors import NotRegisteredError
from connector_core.literals import File, to_literal_map
from tests.support.environments import ROOT, clean_environment, try_to_run
from tests.support.gate import PLUGIN, Gate
from tests.support.hosts import host_process
from tests.support.terminals import CTRL_C, terminal

CONNECTOR_HOST = Path(sys.executable).with_name("connector-host")
DATA = ROOT / "examples" / "data" / "seattle-weather.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory whose settings allow a shell, and DuckDB the examples' data and temporary files."""
    (tmp_path / "tmp").mkdir()
    allowed = json.dumps([str(DATA.parent), str(tmp_path / "tmp")])
    (tmp_path / "connector-host.toml").write_text(
        f'[plugins.process]\nallow = ["/bin/sh"]\nstate = {json.dumps(str(tmp_path))}\n'
        f"[plugins.duckdb]\nallowed_directories = {allowed}\n"
    )
    return tmp_path


def host(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `connector-host` to its end."""
    result = try_to_run(CONNECTOR_HOST, *arguments, cwd=folder, TMPDIR=str(folder / "tmp"), **environment)
    assert "Traceback" not in result.stderr or "--verbose" in arguments, result.stderr
    return result


def outputs(result: "subprocess.CompletedProcess[str]") -> Any:
    """Return the outputs that were printed as JSON by a run that succeeded."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["outputs"]


def weather(year: int) -> list[dict[str, str]]:
    with DATA.open() as file:
        return [row for row in csv.DictReader(file) if row["date"].startswith(str(year))]


# To the end


def test_a_job_is_run_to_its_end_with_a_line_for_each_phase(folder: Path) -> None:
    result = host(folder, "run", "sleep", "--input", "seconds=0.2")
    assert result.returncode == 0
    assert result.stdout == "output  value\nslept   0.2\n"
    running, over = result.stderr.splitlines()
    assert running.startswith("RUNNING: ")
    assert over.startswith("SUCCEEDED after ")


def test_outputs_are_on_stdout_and_the_job_s_log_is_not(folder: Path) -> None:
    result = host(folder, "run", "process", "--json", "--", "sh", "-c", "echo first; echo second; echo warning >&2")
    assert outputs(result) == {"exit_code": 0, "stdout": "first\nsecond\n"}
    logged = [line for line in result.stderr.splitlines() if line.startswith("| ")]
    assert sorted(logged) == ["| first", "| second", "| warning"]


def test_a_table_of_outputs_keeps_their_lines_apart(folder: Path) -> None:
    result = host(folder, "run", "process", "--", "sh", "-c", "echo first; echo second")
    assert result.stdout == "output     value\nexit_code  0\nstdout     first\n           second\n"


def test_a_job_that_fails_ends_with_1_and_says_why(folder: Path) -> None:
    result = host(folder, "run", "process", "--", "sh", "-c", "echo no such table >&2; exit 3")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "FAILED after " in result.stderr
    assert (
        "(NonZeroExit): the command ended with exit code 3; its last words on stderr:\nno such table" in result.stderr
    )


def test_a_failure_can_be_read_as_json(folder: Path) -> None:
    result = host(folder, "run", "process", "--json", "--", "sh", "-c", "exit 3")
    assert result.returncode == 1
    described = json.loads(result.stdout)
    assert (described["phase"], described["error_code"], described["outputs"]) == ("FAILED", "NonZeroExit", {})


def test_a_create_that_is_refused_for_good_ends_with_1_and_says_why(folder: Path) -> None:
    result = host(folder, "run", "process", "--", "rm", "-rf", "everything")
    assert result.returncode == 1
    assert "'rm' may not be run; allowed are /bin/sh" in result.stderr


def test_a_query_over_a_local_file_is_answered(folder: Path) -> None:
    result = host(
        *(folder, "run", "duckdb_query", "--json", "--file", f"weather={DATA}", "--input", "year=2015"),
        *("--sql", "SELECT count(*) AS days, max(temp_max) AS hottest FROM weather WHERE year(date) = $year"),
    )
    rows = weather(2015)
    assert outputs(result) == {"result": [{"days": len(rows), "hottest": max(float(one["temp_max"]) for one in rows)}]}


def test_a_list_of_rows_is_shown_as_a_table(folder: Path) -> None:
    (folder / "query.sql").write_text(
        "SELECT weather, count(*) AS days FROM weather WHERE year(date) = 2015 GROUP BY 1"
    )
    place = os.path.relpath(DATA, folder)
    result = host(folder, "run", "duckdb_query", "--sql", "@query.sql", "--file", f"weather={place}")
    assert result.returncode == 0, result.stderr
    head, count, empty, name, headings, *rows = result.stdout.splitlines()
    assert (head, count.split(), empty, name) == ("output  value", ["result", "4", "rows,", "below"], "", "result:")
    assert headings.split() == ["weather", "days"]
    counted = collections.Counter(row["weather"] for row in weather(2015))
    assert sorted(row.split() for row in rows) == sorted([kind, str(days)] for kind, days in counted.items())


def test_what_a_sync_connector_refuses_is_said_in_its_own_words(folder: Path) -> None:
    result = host(folder, "run", "duckdb_query", "--sql", "SELEC 1")
    assert result.returncode == 1
    assert "FAILED after " in result.stderr
    assert "(InvalidInput): plugin 'duckdb', do(): Parser Error: syntax error at or near \"SELEC\"" in result.stderr


def test_settings_of_a_host_that_serves_do_not_get_into_the_way(folder: Path) -> None:
    own = 'port = 1\ngateway = "tasks"\nrequire = ["other"]\nhost = "192.0.2.1"\n'
    settings = (folder / "connector-host.toml").read_text()
    (folder / "connector-host.toml").write_text(f'{own}{settings}[memory]\nkind = "sqlite"\n')
    assert outputs(host(folder, "run", "sleep", "--input", "seconds=0", "--json")) == {"slept": 0.0}
    assert not list(folder.glob("*.sqlite*"))


def test_no_trace_is_left_of_an_output_folder_that_nothing_was_written_into(folder: Path) -> None:
    assert host(folder, "run", "sleep", "--input", "seconds=0").returncode == 0
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("prefix", ["results", "s3://bucket/results"])
def test_outputs_go_where_they_are_wanted(folder: Path, prefix: str) -> None:
    script = "echo {{.outputPrefix}}"
    result = host(folder, "run", "process", "--output-prefix", prefix, "--json", "--", "sh", "-c", script)
    wanted = prefix if "://" in prefix else (folder / prefix).as_uri()
    assert outputs(result)["stdout"] == f"{wanted}\n"


# What authors and operators see of what goes wrong

MINE = """
import os, time
from dataclasses import dataclass
import grpc
from connector_core import AsyncConnectorBase, Phase, PermanentError, Resource, ResourceMeta, SyncConnectorBase, hookimpl

@dataclass
class Meta(ResourceMeta):
    what: str

class Job(AsyncConnectorBase[Meta]):
    name = task_type_name = "job"
    def create(self, inputs):
        if inputs["what"] == "create":
            return {}["nothing"]
        return Meta(inputs["what"])
    async def get(self, resource_meta):
        if resource_meta.what == "block":
            time.sleep(1)
        return "done" if resource_meta.what == "type" else Resource(Phase.SUCCEEDED)
    async def delete(self):
        pass

class Answer(SyncConnectorBase):
    name = task_type_name = "answer"
    def do(self, inputs, output_prefix):
        if inputs["what"] == "grpc":
            try:
                grpc.server(None).add_insecure_port("192.0.2.1:1")
            except RuntimeError:
                pass
        if inputs["what"] == "refuse":
            raise PermanentError(f"{output_prefix.removeprefix('file://')} is not allowed")
        if inputs["what"] == "fail":
            raise PermanentError("failed")
        return Resource(Phase.SUCCEEDED, outputs={"verbosity": os.environ.get("GRPC_VERBOSITY", "")})

@hookimpl
def register_connectors():
    return [Job(), Answer()]
"""


@pytest.fixture
def mine(folder: Path) -> tuple[str, ...]:
    """Options with which a plugin is run that does what is asked for by `what`."""
    (folder / "mine.py").write_text(MINE)
    return "--modules", "mine", "--allow-plugin", "mine"


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(MINE.splitlines(), 1) if text in line)


def test_where_an_author_s_code_fails_is_said_without_verbose(folder: Path, mine: tuple[str, ...]) -> None:
    result = host(folder, "run", "job", *mine, "--input", "what=create")
    assert result.returncode == 1
    place = f'KeyError at mine.py:{line_of("nothing")}, in create: return {{}}["nothing"] (--verbose'
    assert result.stderr.count(place) == 1


def test_a_blocked_event_loop_is_said_with_what_blocks_it(folder: Path, mine: tuple[str, ...]) -> None:
    result = host(folder, "run", "job", *mine, "--input", "what=block", CONNECTOR_HOST__STALL_SECONDS="0.1")
    assert result.returncode == 0
    said = [line for line in result.stderr.splitlines() if line.endswith(f"At mine.py:{line_of('time.sleep')}")]
    assert len(said) == 1
    assert "loop of plugin mine" in said[0]


def test_a_wrong_return_type_is_said_once(folder: Path, mine: tuple[str, ...]) -> None:
    result = host(folder, "run", "job", *mine, "--input", "what=type")
    assert result.returncode == 1
    assert result.stderr.count("returned a str, not a Resource") == 1


def test_lines_of_grpc_s_own_are_not_printed_unless_asked_for(folder: Path, mine: tuple[str, ...]) -> None:
    result = host(folder, "run", "answer", *mine, "--input", "what=grpc", "--json")
    assert (outputs(result), result.stderr.count("add_port.cc")) == ({"verbosity": ""}, 0)
    result = host(folder, "run", "answer", *mine, "--input", "what=grpc", "--json", GRPC_VERBOSITY="ERROR")
    assert outputs(result) == {"verbosity": "ERROR"}
    assert "add_port.cc" in result.stderr


def test_of_a_folder_on_another_machine_it_is_said_what_to_write_where(folder: Path, mine: tuple[str, ...]) -> None:
    with host_process(*mine, cwd=folder) as serving:
        refused = host(folder, "run", "answer", "--endpoint", serving.address, "--input", "what=refuse")
        assert f"is a folder on the machine of {serving.address}: with --output-prefix" in refused.stderr
        failed = host(folder, "run", "answer", "--endpoint", serving.address, "--input", "what=fail")
        named = ("--output-prefix", "results", "--input", "what=refuse")
        chosen = host(folder, "run", "answer", "--endpoint", serving.address, *named)
    assert [result.returncode for result in (refused, failed, chosen)] == [1, 1, 1]
    assert "--output-prefix" not in failed.stderr + chosen.stderr


def test_a_module_that_fails_is_looked_at_with_the_same_module(folder: Path) -> None:
    (folder / "bad.py").write_text("import not_there_at_all\n")
    result = host(folder, "run", "job", "--modules", "bad", "--allow-plugin", "bad")
    assert "(connector-host doctor bad --modules bad shows the traceback)" in result.stderr


# Tasks as flytekit serialises them


def serialise(folder: Path) -> None:
    """Write a real task of flytekit's in all the forms that there are, and its inputs."""
    from flytekit.configuration import ImageConfig, SerializationSettings
    from flytekit.tools.translator import get_serializable
    from flytekit.types.file import FlyteFile
    from flytekit.types.structured import StructuredDataset

    from connector_plugin_duckdb.task import DuckDBQuery

    query = "SELECT month(date) AS month, max(temp_max) AS hottest FROM weather WHERE year(date) = $year GROUP BY 1 ORDER BY 1"
    task = DuckDBQuery("hottest", query, inputs={"weather": FlyteFile, "year": int}, output=StructuredDataset)
    settings = SerializationSettings(
        project="p", domain="d", version="v", image_config=ImageConfig.auto_default_image()
    )
    spec = get_serializable(OrderedDict(), settings, task).to_flyte_idl()
    for name, message in (("spec", spec), ("template", spec.template)):
        (folder / f"{name}.pb").write_bytes(message.SerializeToString())
        (folder / f"{name}.json").write_text(json_format.MessageToJson(message))
    literals: LiteralMap = to_literal_map({"weather": File(DATA.as_uri()), "year": 2014})
    (folder / "inputs.pb").write_bytes(literals.SerializeToString())
    (folder / "literals.json").write_text(json_format.MessageToJson(literals))
    (folder / "values.json").write_text(json.dumps({"weather": str(DATA), "year": 2014}))


def test_a_task_of_flytekit_runs_in_every_form_that_it_can_be_written_in(folder: Path) -> None:
    serialise(folder)
    hottest = max(float(row["temp_max"]) for row in weather(2014) if row["date"][5:7] == "07")
    for template, inputs in (
        ("spec.pb", "inputs.pb"),
        ("template.pb", "values.json"),
        ("spec.json", "literals.json"),
        ("template.json", "values.json"),
    ):
        result = host(folder, "run", "--template", template, "--inputs", inputs)
        assert result.returncode == 0, result.stderr
        rows = [line.split() for line in result.stdout.partition("result:\n")[2].splitlines()]
        assert rows[0] == ["month", "hottest"]
        assert rows[7] == ["7", str(hottest)]
        assert len(rows) == 13


def test_what_the_task_wrote_stays_and_is_named(folder: Path) -> None:
    serialise(folder)
    result = host(folder, "run", "--template", "spec.pb", "--inputs", "inputs.pb", "--input", "year=2015", "--json")
    table = outputs(result)["result"]
    (written,) = (folder / "tmp").iterdir()
    assert f"what the task has written is in {written}" in result.stderr
    assert table == {"kind": "dataset", "uri": f"{written.as_uri()}/result", "format": "parquet"}
    again = host(
        *(folder, "run", "duckdb_query", "--sql", "SELECT count(*) FROM months", "--json"),
        *("--input", f"months={json.dumps(table)}"),
    )
    assert outputs(again) == {"result": 12}


def test_an_input_that_a_task_of_flytekit_does_not_declare_is_refused(folder: Path) -> None:
    serialise(folder)
    misspelt = host(folder, "run", "--template", "spec.pb", "--inputs", "values.json", "--input", "yaer=2015")
    missing = host(folder, "run", "--template", "spec.pb", "--input", "year=2015")
    wrong = host(folder, "run", "--template", "spec.pb", "--inputs", "values.json", "--input", "year=soon")
    assert [one.returncode for one in (misspelt, missing, wrong)] == [2, 2, 2]
    assert "takes no input 'yaer' (did you mean 'year'?)" in misspelt.stderr
    assert "takes an input 'weather', a File: give it with --input weather=" in missing.stderr
    assert "input 'year': a str where an INTEGER is expected" in wrong.stderr


# What cannot be run


def test_an_unknown_task_type_is_answered_with_near_ones(folder: Path) -> None:
    result = host(folder, "run", "duckdb_qery", "--sql", "SELECT 1")
    assert result.returncode == 1
    assert "'duckdb_qery' (did you mean 'duckdb_query'?); served are: duckdb_query, process, sleep" in result.stderr


def test_a_plugin_that_might_have_served_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')\n")
    (tmp_path / "tmp").mkdir()
    result = host(tmp_path, "run", "process", "--modules", "broken", "--", "sh", "-c", "true")
    assert result.returncode == 1
    assert "no connector serves the task type 'process'" in result.stderr
    assert "plugin process brings no connector. Runs the commands that the operator allows" in result.stderr
    assert "plugin broken failed to load: RuntimeError: no licence (connector-host doctor broken" in result.stderr


def test_what_is_answered_at_once_cannot_be_detached_from(folder: Path) -> None:
    result = host(folder, "run", "duckdb_query", "--sql", "SELECT 1", "--detach")
    assert result.returncode == 2
    assert "is answered at once, so there is nothing to --detach from" in result.stderr


BROKEN = """
    from dataclasses import dataclass

    from connector_core import AsyncConnectorBase, ResourceMeta, hookimpl


    @dataclass
    class Meta(ResourceMeta):
        pass


    class Broken(AsyncConnectorBase[Meta]):
        name = "Broken"
        task_type_name = "broken"

        def create(self):
            print("a plugin that prints")
            raise KeyError("somewhere deep")

        def get(self, resource_meta): ...

        def delete(self, resource_meta): ...


    @hookimpl
    def register_connectors():
        return [Broken()]
"""


def test_a_plugin_s_traceback_is_shown_when_it_is_asked_for(folder: Path) -> None:
    (folder / "broken.py").write_text(textwrap.dedent(BROKEN))
    quiet = host(folder, "run", "broken", "--modules", "broken")
    verbose = host(folder, "run", "broken", "--modules", "broken", "--verbose")
    assert quiet.returncode == verbose.returncode == 1
    assert "INTERNAL: plugin 'broken', create(): KeyError: 'somewhere deep'" in quiet.stderr
    assert 'raise KeyError("somewhere deep")' in verbose.stderr


WITHIN = """
    import sys
    import threading

    import psutil

    from connector_core import Phase, Resource, SyncConnectorBase, hookimpl


    class Within(SyncConnectorBase):
        name = task_type_name = "within"

        def do(self):
            sockets = psutil.Process().net_connections("tcp")
            return Resource(Phase.SUCCEEDED, outputs={
                "listens": sum(one.status == "LISTEN" for one in sockets),
                "threads": sorted(thread.name for thread in threading.enumerate()),
                "imported": [name for name in ("uvicorn", "starlette") if name in sys.modules],
            })


    @hookimpl
    def register_connectors():
        return [Within()]
"""


def test_the_host_of_a_run_serves_nothing_but_its_own_calls(tmp_path: Path) -> None:
    (tmp_path / "within.py").write_text(textwrap.dedent(WITHIN))
    found = outputs(host(tmp_path, "run", "within", "--modules", "within", "--json"))
    assert (found["listens"], found["imported"]) == (1, [])
    assert "http" not in found["threads"]


def test_what_a_plugin_prints_is_not_among_the_outputs(folder: Path) -> None:
    (folder / "broken.py").write_text(textwrap.dedent(BROKEN))
    result = host(folder, "run", "broken", "--modules", "broken", "--json")
    assert result.stdout == ""
    assert "a plugin that prints" in result.stderr


# On a host that serves


def test_a_host_elsewhere_runs_it_with_the_plugins_that_it_has(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "tmp").mkdir()
    with host_process(cwd=folder) as serving:
        result = host(
            *(folder / "elsewhere", "run", "process", "--endpoint", serving.address, "--json"),
            *("--", "sh", "-c", "echo there"),
        )
        assert outputs(result)["stdout"] == "there\n"
        sync = host(
            *(folder / "elsewhere", "run", "duckdb_query", "--endpoint", serving.address, "--json"),
            *("--sql", "SELECT 6 * 7"),
        )
        assert outputs(sync) == {"result": 42}
        unknown = host(folder / "elsewhere", "run", "sleeep", "--endpoint", serving.address)
        assert unknown.returncode == 1
        assert "did you mean 'sleep'?" in unknown.stderr
        assert serving.stop() == 0


def test_a_host_that_is_not_there_is_said_to_be_missing(folder: Path) -> None:
    with host_process(cwd=folder) as serving:
        address = serving.address
        assert serving.stop() == 0
    result = host(folder, "run", "sleep", "--endpoint", address)
    assert result.returncode == 1
    assert f"no host answers at {address}: start one (connector-host serve)" in result.stderr


def test_a_host_on_this_machine_is_reached_past_any_proxy(folder: Path) -> None:
    with host_process(cwd=folder) as serving:
        run = ("run", "sleep", "--input", "seconds=0.1", "--endpoint", serving.address)
        assert host(folder, *run, http_proxy="http://127.0.0.1:1", no_proxy="").returncode == 0
        assert serving.stop() == 0


def test_a_proxy_on_the_way_to_a_host_is_named_where_nothing_answers(folder: Path) -> None:
    proxied = {"grpc_proxy": "http://me:secret@127.0.0.1:1", "no_proxy": ""}
    result = host(folder, "run", "sleep", "--endpoint", "connectors.example:8000", **proxied)
    assert result.returncode == 1
    assert "no host answers at connectors.example:8000 through the proxy http://127.0.0.1:1" in result.stderr
    assert "which grpc_proxy names (add the host to no_proxy" in result.stderr
    assert "secret" not in result.stderr


class OldServer(AgentMetadataServiceServicer):
    """A server of before task categories, which answers nothing else."""

    async def ListAgents(self, _request: Any, _context: Any) -> agent_pb2.ListAgentsResponse:
        return agent_pb2.ListAgentsResponse(agents=[agent_pb2.Agent(is_sync=True, supported_task_types=["old"])])


@pytest.fixture
async def old_server() -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_AgentMetadataServiceServicer_to_server(OldServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_a_server_of_an_older_engine_is_understood(old_server: str) -> None:
    async with connected(old_server) as client:
        assert await client.is_sync(TaskCategory("old"))
        with pytest.raises(NotRegisteredError, match="served are: old"):
            await client.is_sync(TaskCategory("new"))


async def test_what_is_no_connector_host_is_called_so(old_server: str) -> None:
    async with connected(old_server) as client:
        with pytest.raises(CallError, match="does not have this call: is it a connector host"):
            await client.get(Job(TaskCategory("old"), b"meta"))


# Detached


def test_a_job_is_detached_from_found_again_and_deleted(folder: Path) -> None:
    started = host(
        *(folder, "run", "process", "--detach", "--"),
        *("sh", "-c", 'echo $$ > pid; mv pid "$1"; echo up; sleep 1000', "sh", str(folder / "job.pid")),
    )
    assert started.returncode == 0, started.stderr
    assert started.stderr.startswith("RUNNING: ")
    (handle,) = started.stdout.split()

    running = host(folder, "get", handle, "--json")
    assert running.returncode == 0
    assert json.loads(running.stdout)["phase"] == "RUNNING"
    assert host(folder, "get", handle).stderr.startswith("RUNNING: ")

    job = psutil.Process(int((folder / "job.pid").read_text()))
    deleted = host(folder, "delete", handle)
    assert deleted.returncode == 0
    assert deleted.stderr == "Deleted; the job is ABORTED: stopped\n"
    assert not job.is_running()
    assert host(folder, "delete", handle).returncode == 0

    over = host(folder, "get", handle, "--wait")
    assert over.returncode == 1
    assert "ABORTED after " in over.stderr
    assert host(folder, "logs", handle).stdout == "up\n"


def test_a_detached_job_s_log_can_be_followed_to_its_end_and_its_outputs_fetched(folder: Path) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    (handle,) = host(
        folder, "run", "process", "--detach", "--", "sh", "-c", f"echo first; cat {gate}; echo last"
    ).stdout.split()
    following = subprocess.Popen(
        [CONNECTOR_HOST, "logs", handle, "--follow", "--interval", "0.1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert following.stdout is not None
    with following.stdout as lines:
        assert next(lines) == "first\n"
        gate.write_text("second\n")
        assert list(lines) == ["second\n", "last\n"]
    assert following.wait(60) == 0
    assert outputs(host(folder, "get", handle, "--json"))["stdout"] == "first\nsecond\nlast\n"
    waited = host(folder, "get", handle, "--wait", "--json")
    assert outputs(waited)["exit_code"] == 0


def test_a_handle_knows_the_host_that_it_is_of(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "tmp").mkdir()
    with host_process(cwd=folder) as serving:
        started = host(
            *(folder / "elsewhere", "run", "process", "--endpoint", serving.address, "--detach", "--json"),
            *("--", "sh", "-c", "echo done"),
        )
        handle = json.loads(started.stdout)["handle"]
        waited = host(folder / "elsewhere", "get", handle, "--wait", "--json")
        assert outputs(waited)["stdout"] == "done\n"
        address = serving.address
        assert serving.stop() == 0
    gone = host(folder / "elsewhere", "get", handle)
    assert gone.returncode == 1
    assert f"no host answers at {address}" in gone.stderr
    with host_process(cwd=folder) as restarted:
        assert host(folder / "elsewhere", "logs", handle, "--endpoint", restarted.address).stdout == "done\n"
        assert restarted.stop() == 0


def test_a_job_that_has_failed_at_once_is_not_detached_from(folder: Path) -> None:
    result = host(folder, "run", "process", "--detach", "--", "rm", "everything")
    assert (result.returncode, result.stdout) == (1, "")
    assert "may not be run" in result.stderr


def test_logs_that_a_connector_does_not_have_are_said_not_to_exist(folder: Path) -> None:
    (handle,) = host(folder, "run", "sleep", "--detach", "--input", "seconds=0").stdout.split()
    result = host(folder, "logs", handle)
    assert result.returncode == 1
    assert "UNIMPLEMENTED" in result.stderr
    assert "has no get_logs()" in result.stderr


# Interrupted


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@contextmanager
def creating(folder: Path, gate: Gate) -> Iterator["subprocess.Popen[str]"]:
    """Run a task whose create waits at the gate."""
    (folder / "at_the_gate.py").write_text(textwrap.dedent(PLUGIN))
    running = subprocess.Popen(
        [CONNECTOR_HOST, "run", "blocking", "--modules", "at_the_gate"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(GATE=str(gate.port)),
    )
    assert running.stderr is not None
    with running.stderr:
        gate.wait_for(1)
        running.send_signal(signal.SIGINT)
        assert next(running.stderr).startswith("waiting for the create, to delete what it starts")
        yield running


def test_what_is_being_created_when_ctrl_c_comes_is_awaited_and_deleted(folder: Path, gate: Gate) -> None:
    with creating(folder, gate) as running:
        gate.open()
        assert running.stderr is not None
        assert next(running.stderr).startswith("asking the connector to delete the job")
        assert running.wait(60) == 130


def test_a_create_that_hangs_does_not_keep_a_second_ctrl_c_waiting(folder: Path, gate: Gate) -> None:
    with creating(folder, gate) as running:
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert next(running.stderr) == "given up: a job may have been started\n"
        assert running.wait(60) == 130


def test_ctrl_c_on_a_terminal_deletes_a_job_whose_log_was_followed(folder: Path) -> None:
    script = f'echo $$ > pid; mv pid {folder}/job.pid; echo "job up"; echo warning >&2; sleep 1000'
    with terminal(CONNECTOR_HOST, "run", "process", "--", "sh", "-c", script, cwd=folder) as screen:
        screen.wait_for("│ job up")
        screen.wait_for("│ warning")
        screen.wait_for(r"RUNNING process +\d")
        screen.wait_for(r"runs on host \S+, below process \d+")
        screen.wait_for(r"CPU \d+\.\d\d cores · memory \d+ [KM]iB")
        job = psutil.Process(int((folder / "job.pid").read_text()))
        screen.type(CTRL_C)
        screen.wait_for("asking the connector to delete the job")
        assert screen.wait() == 130
        assert not job.is_running()
        screen.wait_for("ABORTED after .*: stopped")
        assert "Traceback" not in screen.text


def test_a_second_ctrl_c_gives_up_waiting_and_says_how_to_find_the_job(folder: Path) -> None:
    settings = (folder / "connector-host.toml").read_text()
    (folder / "connector-host.toml").write_text(settings.replace("state =", "grace_seconds = 1000\nstate ="))
    script = f'trap "" TERM; echo $$ > pid; mv pid {folder}/job.pid; echo up; while :; do sleep 0.2; done'
    with terminal(CONNECTOR_HOST, "run", "process", "--", "sh", "-c", script, cwd=folder) as screen:
        screen.wait_for("│ up")
        job = psutil.Process(int((folder / "job.pid").read_text()))
        try:
            screen.type(CTRL_C)
            screen.wait_for("Ctrl-C again gives up")
            screen.type(CTRL_C)
            assert screen.wait() == 130
            screen.wait_for(r"the job may be running still: connector-host get\|logs\|delete \S+")
            assert job.is_running()
        finally:
            job.kill()


def test_without_a_terminal_sigint_deletes_the_job_too(folder: Path) -> None:
    script = "echo $$; sleep 1000"
    running = subprocess.Popen(
        [CONNECTOR_HOST, "run", "process", "--", "sh", "-c", script],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
        start_new_session=True,
    )
    assert running.stderr is not None
    with running.stderr as lines:
        number = next(int(line[2:]) for line in lines if line.startswith("| "))
        job = psutil.Process(number)
        running.send_signal(signal.SIGINT)
        rest = list(lines)
    assert running.wait(60) == 130
    assert not job.is_running()
    assert rest[-1].startswith("ABORTED after ")


def test_ctrl_c_stops_a_query_that_would_take_forever(folder: Path) -> None:
    query = "SELECT count(*) FROM range(1000000000000) a(i) WHERE hash(i) % 7 = 3"
    with terminal(CONNECTOR_HOST, "run", "duckdb_query", "--sql", query, cwd=folder) as screen:
        screen.wait_for(r"running duckdb_query +\d")
        screen.type(CTRL_C)
        assert screen.wait() == 130
        screen.wait_for("stopped")


def test_on_a_terminal_only_the_log_and_the_end_remain(folder: Path) -> None:
    with terminal(
        CONNECTOR_HOST, "run", "process", "--", "sh", "-c", r"printf '\033[31mred\033[0m\033[2J\n'", cwd=folder
    ) as screen:
        assert screen.wait() == 0
    assert "\x1b[2J" not in screen.raw
    assert "\x1b[31mred" in screen.raw
    assert "SUCCEEDED after" in screen.text
    assert screen.text.rstrip().endswith("red")  # the output `stdout`


def test_a_terminal_that_can_do_nothing_gets_plain_lines(folder: Path) -> None:
    with terminal("env", "TERM=dumb", CONNECTOR_HOST, "run", "sleep", "--input", "seconds=0.1", cwd=folder) as screen:
        assert screen.wait() == 0
    assert "RUNNING: " in screen.text
    assert "\x1b" not in screen.raw.partition("output")[0]


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    (handle,) = host(folder, "run", "process", "--detach", "--", "sh", "-c", "seq 200000").stdout.split()
    assert host(folder, "get", handle, "--wait").returncode == 0
    piped = try_to_run("bash", "-c", f"{CONNECTOR_HOST} logs {handle} | head -n 1", cwd=folder)
    assert piped.stdout == "1\n"
    assert piped.stderr == ""
