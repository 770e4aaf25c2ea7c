"""The task that a workflow author writes for this connector; needs the extra `flytekit`."""

from collections.abc import Mapping, Sequence
from typing import Any

from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface

from connector_plugin_process.authoring import OUTPUTS, Declared


class ProcessTask(PythonTask[None]):
    """Runs a command where the connector's host runs; its outputs are `exit_code` (int) and `stdout` (str, its end).

    Args:
        name: the task's name.
        argv: the command and its arguments, one item each; no shell is involved. `{{.inputs.NAME}}` stands for an input.
        inputs: the types of the task's inputs by name.
        env: environment variables for the command, besides the few that it always has; the operator allows them.
        cwd: the working directory, in a folder that the operator allows; each run has one of its own if left out.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        inputs: Mapping[str, type] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._declared = Declared.of(argv, env, cwd)
        super().__init__(
            task_type="process",
            name=name,
            task_config=None,
            interface=Interface(inputs=dict(inputs or {}), outputs=OUTPUTS),
            **kwargs,
        )

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - flytekit's signature
        """Return what the connector reads: `argv`, and `env` and `cwd` where they are given."""
        return self._declared.to_custom()

    def execute(self, **kwargs: Any) -> tuple[int, str]:
        """Run the command here, for trying a workflow locally; what operators forbid is not looked at.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        return self._declared.run_here(kwargs)
