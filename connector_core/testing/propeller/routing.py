"""The engine's choice of a server for a task: its configuration, and a table rebuilt from nothing at each poll."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flyteidl.admin import agent_pb2

from connector_core.task import TaskCategory

DEFAULT = "default"
"""The name of the deployment that takes what no other is known for."""


@dataclass(frozen=True)
class Deployment:
    """A connector server as the engine's configuration has it.

    Attributes:
        addresses: `host:port` of each replica; calls go round between them.
        deadline: seconds for each call; `None` for no deadline, as the engine has it for every deployment
            but the default one.
        deadlines: the same by method (`"CreateTask"`), where one differs.
        task_types: task types that the configuration itself sends here. They are called as async, whatever the server
            says about them. The engine lower-cases them as it reads its configuration: one with a capital never matches.
        service_config: gRPC's service config for calls to it, such as the engine's `defaultServiceConfig`; with
            `maxResponseMessageBytes` in it, larger answers are received.
    """

    addresses: Sequence[str]
    deadline: float | None = None
    deadlines: Mapping[str, float | None] = field(default_factory=dict)
    task_types: Sequence[str] = ()
    service_config: Mapping[str, Any] | None = None

    def deadline_of(self, method: str) -> float | None:
        """Return the deadline of one method's calls, in seconds."""
        return self.deadlines.get(method, self.deadline)


class Route(NamedTuple):
    """The route of a task's calls: their server, and how it is called."""

    deployment: str
    is_sync: bool


class RoutingTable:
    """The engine's knowledge of who serves what.

    Args:
        deployments: by name.
        is_of_v2: whether it is the table of the engine's v2, which knows all versions of a task type, and not only the last.
        supported: the task types of the configuration's `supportedTaskTypes`. The engine's v2 routes by these alone, where they
            are given; else by what is listed, for the convenience of tests.

    Attributes:
        listed: what servers listed at the last poll, by the task type's name and version.
    """

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        *,
        is_of_v2: bool = False,
        supported: Sequence[str] | None = None,
    ) -> None:
        self._is_of_v2 = is_of_v2
        self.listed: dict[str, dict[int, Route]] = {}
        self._fallback = Route(DEFAULT, is_sync=False) if DEFAULT in deployments else None
        self._configured = {
            task_type.lower(): Route(name, is_sync=False)
            for name, deployment in deployments.items()
            for task_type in deployment.task_types
        }
        self._by_listing = not (is_of_v2 and supported is not None)
        if not self._by_listing and self._fallback is not None:
            self._configured = {**dict.fromkeys(supported or (), self._fallback), **self._configured}
        self._supported = set(supported or ())
        self._has_been_polled = False

    def rebuild(self, answers: Iterable[tuple[str, Sequence[agent_pb2.Agent]]]) -> None:
        """Forget everything, then take what each deployment listed; one that did not answer has listed nothing."""
        self.listed = {}
        if not self._by_listing:
            return
        for deployment, agents in answers:
            for agent in agents:
                route = Route(deployment, agent.is_sync)
                for name in agent.supported_task_types:
                    self.listed[name] = {0: route}
                for category in agent.supported_task_categories:
                    others = self.listed.get(category.name, {}) if self._is_of_v2 else {}
                    self.listed[category.name] = {**others, category.version: route}
        if not self._has_been_polled:  # what is known when the engine starts
            self._has_been_polled = True
            self._supported.update(self.listed)

    def has_fallen_to_container(self, category: TaskCategory) -> bool:
        """Return whether the engine takes a running job's task for the default container plugin's.

        That becomes of un-routed task types which were neither listed when the engine started nor are `supportedTaskTypes`.
        """
        name = category.name
        return not (self._is_of_v2 or name in self.listed or name in self._configured or name in self._supported)

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
