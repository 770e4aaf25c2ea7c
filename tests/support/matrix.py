"""Every package that brings connectors for flytekit or flyte: where it installs, and whether a host there serves it."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin.agent_pb2 import ListAgentsRequest
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub
from flyteidl2.connector.connector_pb2 import ListConnectorsRequest
from flyteidl2.connector.service_pb2_grpc import ConnectorMetadataServiceStub
from packaging.utils import canonicalize_name

from tests.support.bridge_probe import BY_ITS_CLASS, SAME
from tests.support.environments import clean_environment, run, uv
from tests.support.hosts import host_process

PROBE = Path(__file__).with_name("bridge_probe.py")
_LONGEST_INSTALL = 1800.0


@dataclass(frozen=True)
class Group:
    """Packages that go into one environment.

    Attributes:
        name: the environment's.
        bridge: the folder of the plugin that serves them.
        packages: the distributions.
        limits: what is required besides, since the packages themselves ask for less than they need, and why.
    """

    name: str
    bridge: str
    packages: tuple[str, ...]
    limits: Mapping[str, str] = field(default_factory=dict)


GROUPS = (
    Group(
        "flytekit",
        "flytekit",
        (
            "flytekitplugins-awsemrserverless",
            "flytekitplugins-awssagemaker",
            "flytekitplugins-k8sdataservice",
            "flytekitplugins-mmcloud",
            "flytekitplugins-openai",
            "flytekitplugins-perian-job",
            "flytekitplugins-slurm",
            "flytekitplugins-snowflake",
            "flytekitplugins-spark",
        ),
        {"perian<0.3": "later ones lack `perian.JobStatus`, which the plugin imports"},
    ),
    Group(
        "flytekit-numpy-1",
        "flytekit",
        ("flytekitplugins-airflow", "flytekitplugins-bigquery"),
        {"pyarrow<26": "later ones need NumPy 2, which the BigQuery plugin excludes"},
    ),
    Group(
        "flytekit-lepton",
        "flytekit",
        ("flytekitplugins-dgxc-lepton",),
        {"leptonai>=0.25,<0.28": "others lack parts of `leptonai.api.v1`, which the plugin imports"},
    ),
    Group(
        "flytekit-retired",
        "flytekit",
        ("flytekitplugins-chatgpt", "flytekitplugins-perian-job-unofficial"),
        {"perian<0.3": "as above"},
    ),
    Group(
        "flyte",
        "flyte",
        ("flyteplugins-bigquery", "flyteplugins-databricks", "flyteplugins-slurm", "flyteplugins-snowflake"),
    ),
    Group("flyte-retired", "flyte", ("flyteplugins-connectors[bigquery,databricks,snowflake]",)),
)
"""Candidates, grouped where they conflict. `retired` are those whose connectors other packages bring by now."""


@dataclass(frozen=True)
class Place:
    """Where a host runs: its interpreter and what is set in its environment."""

    python: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def program(self) -> Path:
        """The console script."""
        return self.python.with_name("connector-host")


@dataclass(frozen=True)
class Row:
    """One connector of one package."""

    distribution: str
    version: str
    plugin: str
    connector: str
    task_types: tuple[str, ...]
    kind: str
    verdict: str


@dataclass(frozen=True)
class Examined:
    """What became of a group.

    Attributes:
        rows: the connectors that are served.
        not_installed: why a package cannot be installed, by its name.
        not_served: why a plugin could not be loaded, by its name.
        problems: what does not hold of those that are served.
    """

    group: Group
    rows: tuple[Row, ...] = ()
    not_installed: Mapping[str, str] = field(default_factory=dict)
    not_served: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def install(group: Group, folder: Path, host: Sequence[str | Path]) -> tuple[Place, dict[str, str]]:
    """Make an environment with the group's packages and a host in it; return it, and why others of them are not in it."""
    _run(uv(), "venv", "--quiet", "--python", sys.executable, folder)
    place = Place(folder / "bin" / "python")
    refused: dict[str, str] = {}
    into: tuple[str | Path, ...] = (uv(), "pip", "install", "--quiet", "--python", place.python, *host, *group.limits)
    together = _run(*into, *group.packages)
    if together.returncode:
        for package in group.packages:
            alone = _run(*into, "--dry-run", package)
            if alone.returncode:
                refused[package] = _reason(alone.stderr)
        rest = [package for package in group.packages if package not in refused]
        again = _run(*into, *rest)
        assert again.returncode == 0, f"{group.name}: {', '.join(rest)} conflict; group them anew:\n{again.stderr}"
    return place, refused


def examine(group: Group, place: Place, folder: Path) -> Examined:
    """List, serve and probe what is installed in a place; `folder` is where it may write."""
    listed = json.loads(run(place.program, "list", "--json", cwd=folder, **place.variables).stdout)["plugins"]
    bridged = [plugin for plugin in listed if "/" in plugin["name"]]
    verdicts = json.loads(run(place.python, PROBE, cwd=folder, **place.variables).stdout)
    rows = tuple(
        Row(
            canonicalize_name(plugin["distribution"]),
            plugin["version"],
            plugin["name"],
            connector["name"],
            tuple(connector["task_types"]),
            connector["kind"],
            verdicts.get(connector["name"], "-" if connector["kind"] == "sync" else "it was not tried"),
        )
        for plugin in bridged
        for connector in plugin.get("connectors", ())
    )
    not_served = {plugin["name"]: plugin["reason"] for plugin in listed if plugin["state"] == "failed"}
    problems = [
        f"{row.plugin}: the resource meta of {row.connector}: {row.verdict}"
        for row in rows
        if row.verdict not in {SAME, BY_ITS_CLASS, "-"}
    ]
    problems += _not_listed(rows, _served(place, folder))
    problems += [f"{name} could not be loaded: {reason}" for name, reason in not_served.items()]
    return Examined(group, rows, not_served=not_served, problems=tuple(problems))


def _served(place: Place, folder: Path) -> dict[str, dict[str, set[str]]]:
    """Return the task types by connector, as each generation of the protocol lists them."""
    variables: Any = place.variables
    with host_process(program=place.program, cwd=folder, **variables) as host:
        with grpc.insecure_channel(host.address) as channel:
            agents = AgentMetadataServiceStub(channel).ListAgents(ListAgentsRequest()).agents
            connectors = ConnectorMetadataServiceStub(channel).ListConnectors(ListConnectorsRequest()).connectors
        assert host.stop() == 0, host.output
    return {
        method: {one.name: {category.name for category in one.supported_task_categories} for one in answered}
        for method, answered in (("ListAgents", agents), ("ListConnectors", connectors))
    }


def _not_listed(rows: Iterable[Row], served: Mapping[str, Mapping[str, set[str]]]) -> list[str]:
    return [
        f"{row.plugin}: {method} has {listed.get(row.connector)} for {row.connector}, not {row.task_types}"
        for row in rows
        for method, listed in served.items()
        if listed.get(row.connector) != {one.split("@")[0] for one in row.task_types}
    ]


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " ".join(lines[-3:])


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=_LONGEST_INSTALL,
        check=False,
    )
