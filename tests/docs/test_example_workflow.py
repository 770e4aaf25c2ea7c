"""The example workflow runs: serialised by flytekit, executed by a host, decoded by flytekit."""

import csv
import importlib
import re
import shlex
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.literals_pb2 import BindingData, Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import WorkflowTemplate

from connector_core.testing import RunningServer, running_server
from tests.support.environments import ROOT, run

pytest.importorskip("flytekit", reason="the example is a Flyte workflow")
pytest.importorskip("connector_plugin_duckdb.connector", reason="the example's tasks run on this plugin")

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap as FlytekitLiteralMap
from flytekit.models.task import TaskSpec
from flytekit.tools.translator import get_serializable
from flytekit.types.file import FlyteFile

from connector_plugin_duckdb.config import DuckDBConfig
from connector_plugin_duckdb.connector import DuckDBConnector

FOLDER = ROOT / "examples" / "workflow"
DATA = ROOT / "examples" / "data" / "seattle-weather.csv"
SETTINGS = SerializationSettings(ImageConfig(), project="examples", domain="development", version="1")


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "weather", raising=False)
    return importlib.import_module("weather")


def wettest_month(year: int) -> tuple[int, float]:
    rain: dict[int, float] = defaultdict(float)
    with DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["date"].startswith(f"{year}-"):
                rain[int(row["date"][5:7])] += float(row["precipitation"])
    month = max(rain, key=rain.__getitem__)
    return month, round(rain[month], 1)


def serialised(workflow: Any) -> tuple[WorkflowTemplate, Mapping[str, TaskTemplate]]:
    """Return what the engine is given: the workflow, and its tasks by name."""
    entities: OrderedDict[Any, Any] = OrderedDict()
    spec = get_serializable(entities, SETTINGS, workflow)
    tasks = [one.template.to_flyte_idl() for one in entities.values() if isinstance(one, TaskSpec)]
    return spec.template.to_flyte_idl(), {task.id.name: task for task in tasks}


async def execute(
    host: RunningServer, workflow: WorkflowTemplate, tasks: Mapping[str, TaskTemplate], inputs: LiteralMap, folder: Path
) -> LiteralMap:
    """Do the engine's part: call the host for each node, with what the nodes before it gave."""
    outputs = {"": inputs}

    def value(binding: BindingData) -> Literal:
        found: Literal = outputs[binding.promise.node_id].literals[binding.promise.var]
        return found

    for node in workflow.nodes:
        template = tasks[node.task_node.reference_id.name]
        given = LiteralMap(literals={one.var: value(one.binding) for one in node.inputs})
        resource = await host.execute(template, given, output_prefix=str(folder / node.id))
        assert resource.phase == TaskExecution.SUCCEEDED, resource.message
        outputs[node.id] = resource.outputs
    return LiteralMap(literals={one.var: value(one.binding) for one in workflow.outputs})


def test_the_tasks_have_the_type_that_the_plugin_serves_and_no_container(weather: ModuleType) -> None:
    _, tasks = serialised(weather.weather_report)
    assert set(tasks) == {"monthly_weather", "wettest_month"}
    assert {task.type for task in tasks.values()} == {DuckDBConnector.task_type_name}
    assert {task.WhichOneof("target") for task in tasks.values()} == {"sql"}


async def test_a_host_runs_the_serialised_workflow_and_flytekit_decodes_its_outputs(
    weather: ModuleType, tmp_path: Path
) -> None:
    workflow, tasks = serialised(weather.weather_report)
    context = FlyteContextManager.current_context()
    year = TypeEngine.to_literal(context, 2014, int, TypeEngine.to_literal_type(int)).to_flyte_idl()
    file = TypeEngine.to_literal(
        context, FlyteFile(str(DATA), remote_path=False), FlyteFile, TypeEngine.to_literal_type(FlyteFile)
    ).to_flyte_idl()
    inputs = LiteralMap(literals={"weather": file, "year": year})

    allowed = DuckDBConfig(allowed_directories=(DATA.parent, tmp_path))
    async with running_server(DuckDBConnector(allowed)) as host:
        outputs = await execute(host, workflow, tasks, inputs, tmp_path)

    decoded = TypeEngine.literal_map_to_kwargs(
        context, FlytekitLiteralMap.from_flyte_idl(outputs), weather.weather_report.python_interface.outputs
    )
    assert (decoded["month"], decoded["rain"]) == wettest_month(2014)


def test_the_workflow_runs_without_engine_and_host(weather: ModuleType) -> None:
    assert weather.weather_report(weather=str(DATA), year=2015) == wettest_month(2015)


def test_the_command_of_the_readme_works() -> None:
    (command,) = re.findall(r"^    pyflyte (run examples.*)$", (FOLDER / "README.md").read_text(), flags=re.MULTILINE)
    pyflyte = Path(sys.executable).with_name("pyflyte")
    month, rain = wettest_month(2015)
    assert f"month={month}, rain={rain}" in run(pyflyte, *shlex.split(command), cwd=ROOT).stdout
