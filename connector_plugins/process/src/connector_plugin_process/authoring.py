"""The common part of both SDKs' task classes: a task's `custom`, and a run of its command here."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connector_plugin_process.command import render
from connector_plugin_process.connector import STDOUT_BYTES

OUTPUTS: dict[str, type] = {"exit_code": int, "stdout": str}


class Declared(msgspec.Struct, frozen=True):
    """A command as a workflow author writes it down."""

    argv: list[str]
    env: dict[str, str]
    cwd: str | None

    @classmethod
    def of(cls, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> "Declared":
        """Take what a task class was given.

        Raises:
            TypeError: the command is one string.
        """
        if isinstance(argv, str):
            raise TypeError(
                f"argv is the string {argv!r}; write a list, with the command and each argument as one item"
            )
        return cls(list(argv), dict(env or {}), cwd)

    def to_custom(self) -> dict[str, Any]:
        """Return what the connector reads: `argv`, and `env` and `cwd` where they are given."""
        custom: dict[str, Any] = {"argv": self.argv}
        if self.env:
            custom["env"] = self.env
        if self.cwd:
            custom["cwd"] = self.cwd
        return custom

    def run_here(self, inputs: Mapping[str, Any]) -> tuple[int, str]:
        """Run the command here, for trying a workflow locally; what operators forbid is not looked at.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        argv = [render(argument, inputs, "") for argument in self.argv]
        done = subprocess.run(argv, env=os.environ | self.env, cwd=self.cwd, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"{argv[0]} ended with exit code {done.returncode}: {done.stderr.decode(errors='replace')}"
            )
        return done.returncode, done.stdout[-STDOUT_BYTES:].decode(errors="backslashreplace")
