"""The task that a workflow author writes for this connector; needs the extra `flytekit`."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface

from connector_plugin_process.command import render
from connector_plugin_process.connector import STDOUT_BYTES


class ProcessTask(PythonTask[None]):
    """Runs a command where the connector's host runs; its outputs are `exit_code` (int) and `stdout` (str, its end).

    Args:
        name: the task's name.
        argv: the command and its arguments, one item each; no shell is involved. `{{.inputs.NAME}}` stands for an input.
        inputs: the types of the task's inputs by name.
        env: environment variables for the command, besides the few that it always has.
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
        if isinstance(argv, str):
            raise TypeError(
                f"argv is the string {argv!r}; write a list, with the command and each argument as one item"
            )
        super().__init__(
            task_type="process",
            name=name,
            task_config=None,
            interface=Interface(inputs=dict(inputs or {}), outputs={"exit_code": int, "stdout": str}),
            **kwargs,
        )
        self._argv = list(argv)
        self._env = dict(env or {})
        self._cwd = cwd

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:  # noqa: ARG002 - flytekit's signature
        """Return what the connector reads: `argv`, and `env` and `cwd` where they are given."""
        custom: dict[str, Any] = {"argv": self._argv}
        if self._env:
            custom["env"] = self._env
        if self._cwd:
            custom["cwd"] = self._cwd
        return custom

    def execute(self, **kwargs: Any) -> tuple[int, str]:
        """Run the command here, for trying a workflow locally; what operators forbid is not looked at.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        argv = [render(one, kwargs, "") for one in self._argv]
        done = subprocess.run(argv, env=os.environ | self._env, cwd=self._cwd, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"{argv[0]} ended with exit code {done.returncode}: {done.stderr.decode(errors='replace')}"
            )
        return done.returncode, done.stdout[-STDOUT_BYTES:].decode(errors="backslashreplace")
