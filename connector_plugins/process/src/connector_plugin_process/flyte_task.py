"""The task that a workflow author writes for this connector with SDK 2; needs the extra `flyte`."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from flyte.extend import TaskTemplate
from flyte.models import NativeInterface, SerializationContext

from connector_plugin_process.authoring import OUTPUTS, Declared


class ProcessTask(TaskTemplate[Any, Any, Any]):
    """A task that runs a command where the connector's host runs; outputs are `exit_code` (int) and `stdout` (str, its end).

    Args:
        name: the task's name.
        argv: the command and its arguments, one item each; no shell is involved. `{{.inputs.NAME}}` stands for an input.
        inputs: the types of the task's inputs by name.
        env: environment variables for the command, besides the few that it always has; the operator allows them.
        cwd: the working directory, in a folder that the operator allows; each run has one of its own if left out.
        kwargs: whatever else the SDK's tasks take, such as `retries`.
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
        interface = NativeInterface(
            inputs={key: (value, inspect.Parameter.empty) for key, value in (inputs or {}).items()}, outputs=OUTPUTS
        )
        super().__init__(task_type="process", name=name, interface=interface, **{"image": None, **kwargs})

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        """Return what the connector reads: `argv`, and `env` and `cwd` where they are given."""
        return self._declared.to_custom()

    async def execute(self, **kwargs: Any) -> tuple[int, str]:
        """Run the command here, for trying a workflow locally; what operators forbid is not looked at.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        return await asyncio.to_thread(self._declared.run_here, kwargs)
