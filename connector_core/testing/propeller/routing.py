"""Which server the engine calls for a task: its configuration, and a table rebuilt from nothing at each poll."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flyteidl.admin import agent_pb2

from connector_core.task import TaskCategory

DEFAULT = "default"
"""The name of the deployment that takes what no other is known for."""


@dataclass(frozen=True)
class Deployment:
    """A connector server as the engine's configuration has it.

    Attributes:
        addresses: `host:port` of each replica; calls go round between them.
        deadline: seconds for each call; `None`, as the engine has it for every deployment but the default one, is no
            deadline at all.
        deadlines: the same by method (`"CreateTask"`), where one differs.
        task_types: task types that the configuration itself sends here. They are called as async, whatever the server
            says about them.
    """

    addresses: Sequence[str]
    deadline: float | None = None
    deadlines: Mapping[str, float | None] = field(default_factory=dict)
    task_types: Sequence[str] = ()

    def deadline_of(self, method: str) -> float | None:
        """Return the deadline of one method's calls, in seconds."""
        return self.deadlines.get(method, self.deadline)


class Route(NamedTuple):
    """Where a task's calls go, and how its server is called."""

    deployment: str
    is_sync: bool


class RoutingTable:
    """The engine's knowledge of who serves what.

    Args:
        deployments: by name.
        keeps_versions: whether all versions of a task type are known, as the engine's v2 has it, and not only the last.

    Attributes:
        listed: what servers listed at the last poll, by the task type's name and version.
    """

    def __init__(self, deployments: Mapping[str, Deployment], *, keeps_versions: bool = False) -> None:
        self._keeps_versions = keeps_versions
        self.listed: dict[str, dict[int, Route]] = {}
        self._fallback = Route(DEFAULT, is_sync=False) if DEFAULT in deployments else None
        self._configured = {
            task_type: Route(name, is_sync=False)
            for name, deployment in deployments.items()
            for task_type in deployment.task_types
        }

    def rebuild(self, answers: Iterable[tuple[str, Sequence[agent_pb2.Agent]]]) -> None:
        """Forget everything, then take what each deployment listed; one that did not answer has listed nothing."""
        self.listed = {}
        for deployment, agents in answers:
            for agent in agents:
                route = Route(deployment, agent.is_sync)
                for name in agent.supported_task_types:
                    self.listed[name] = {0: route}
                for category in agent.supported_task_categories:
                    others = self.listed.get(category.name, {}) if self._keeps_versions else {}
                    self.listed[category.name] = {**others, category.version: route}

    def for_new_task(self, category: TaskCategory) -> Route | None:
        """Return where a task is started; `None` for a task type that no connector is known for."""
        if (configured := self._configured.get(category.name)) is not None:
            return configured
        if category.name not in self.listed:
            return None
        return self.listed[category.name].get(category.version, self._fallback)

    def for_running_task(self, category: TaskCategory) -> Route | None:
        """Return where a running job is asked about; once its task type is un-routed, that is the default deployment."""
        return self.for_new_task(category) or self._fallback
