"""uv or pip, whichever is there, on the environment of the running interpreter."""

import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename

from connector_core.cli.packages.progress import Progress
from connector_core.errors import SetupError
from connector_core.processes import Ended, run

_QUIET = {"NO_COLOR": "1", "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class InstallError(SetupError):
    """The installer did not do what it was asked for, or there is none."""


@dataclass(frozen=True)
class Wanted:
    """The distributions to install: requirements as pip and uv take them, editable folders, and further options of theirs."""

    requirements: Sequence[str] = ()
    editable: Sequence[str] = ()
    options: Sequence[str] = ()
    upgrade: bool = False

    @property
    def names(self) -> set[NormalizedName]:
        """The names of distributions that can be read off the requirements."""
        return {name for one in self.requirements if (name := _name_of(one))}

    @property
    def places(self) -> set[str]:
        """The URLs of the folders and files among them."""
        paths = [*self.editable, *(one for one in self.requirements if _is_path(one))]
        return {Path(path.split("[")[0]).absolute().resolve().as_uri() for path in paths}

    @property
    def arguments(self) -> list[str]:
        """As the command line has them."""
        return [*self.requirements, *(part for one in self.editable for part in ("--editable", one)), *self.options]

    def __str__(self) -> str:
        return ", ".join([*self.requirements, *self.editable]) or " ".join(self.options)


@dataclass(frozen=True)
class Installer:
    """A program that installs."""

    name: str
    command: Sequence[str]
    progress: Progress
    environment: Mapping[str, str] = field(default_factory=lambda: _QUIET)

    def plan(self, wanted: Wanted) -> set[NormalizedName]:
        """Return the (canonical) names of what would come, go or change, or more.

        Raises:
            InstallError: it cannot be installed; nothing has been touched.
        """
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            command = self._install(wanted, "--dry-run")
            if self.name == "pip":
                command += ["--report", str(report)]
            ended = self._run(f"asking {self.name} what {wanted} takes", command)
            if ended.code != 0:
                raise InstallError(self._failed(f"{wanted} cannot be installed, and nothing was changed", ended))
            if self.name == "pip":
                items = json.loads(report.read_bytes())["install"]
                return {canonicalize_name(item["metadata"]["name"]) for item in items}
        return {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][\w.-]*", ended.output)}

    def install(self, wanted: Wanted) -> None:
        """Install.

        Raises:
            InstallError: with the installer's own words.
        """
        ended = self._run(f"installing {wanted} with {self.name}", self._install(wanted))
        if ended.code != 0:
            raise InstallError(self._failed(f"{wanted} could not be installed", ended))

    def uninstall(self, names: Sequence[str]) -> None:
        """Uninstall distributions.

        Raises:
            InstallError: with the installer's own words.
        """
        shown = ", ".join(names)
        sure = ["--yes"] if self.name == "pip" else []
        command = [*self.command, "uninstall", *self._where, *sure, *names]
        ended = self._run(f"uninstalling {shown} with {self.name}", command)
        if ended.code != 0:
            raise InstallError(self._failed(f"{shown} could not be uninstalled", ended))

    @property
    def _where(self) -> list[str]:
        return ["--python", sys.executable] if self.name == "uv" else ["--no-input"]

    def _install(self, wanted: Wanted, *more: str) -> list[str]:
        return [*self.command, "install", *self._where, *self._upgrade(wanted), *more, *wanted.arguments]

    def _upgrade(self, wanted: Wanted) -> list[str]:
        """Return the options of an upgrade: of the named ones, and of their requirements only as far as needed for those."""
        if not wanted.upgrade:
            return []
        if self.name == "pip":
            return ["--upgrade"]
        return [part for name in sorted(wanted.names) for part in ("--upgrade-package", name)]

    def _run(self, what: str, command: Sequence[str]) -> Ended:
        with self.progress.doing(what) as say:
            return run(command, say, self.environment)

    def _failed(self, what: str, ended: Ended) -> str:
        said = "\n".join(f"    {line}" for line in ended.output.strip().splitlines())
        return f"{what}. {self.name} ended with {ended.code} and says:\n{said}{_advice()}"


def find_installer(progress: Progress) -> Installer:
    """Return uv if it is there, else pip.

    Raises:
        InstallError: neither is there.
    """
    beside = Path(sysconfig.get_path("scripts"), "uv")
    if uv := shutil.which(os.environ.get("UV") or "uv") or shutil.which(beside):
        return Installer("uv", [uv, "pip"], progress)
    if find_spec("pip"):
        return Installer("pip", [sys.executable, "-m", "pip"], progress)
    raise InstallError(
        f"there is neither uv nor pip to install with: put uv on PATH, or pip into the environment of {sys.executable} "
        f"({sys.executable} -m ensurepip)"
    )


def _advice() -> str:
    """Say what to do about an environment that is not for us to change."""
    is_own = sys.prefix != sys.base_prefix
    if not is_own and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        return (
            "\nThis Python belongs to the operating system. Give the host an environment of its own: "
            "python3 -m venv ~/connector-host && ~/connector-host/bin/pip install connector-core"
        )
    place = Path(sysconfig.get_path("purelib"))
    if not os.access(place, os.W_OK):
        return (
            f"\n{place} cannot be written to by this user: run this as its owner, or, in a container, install plugins "
            "when the image is built"
        )
    return ""


def _is_path(requirement: str) -> bool:
    return "://" not in requirement and (requirement.startswith(".") or "/" in requirement or _is_wheel(requirement))


def _is_wheel(requirement: str) -> bool:
    return requirement.endswith(".whl")


def _name_of(requirement: str) -> NormalizedName | None:
    try:
        if _is_wheel(requirement):
            return parse_wheel_filename(requirement.rsplit("/", 1)[-1])[0]
        return None if _is_path(requirement) else canonicalize_name(Requirement(requirement).name)
    except (InvalidRequirement, InvalidWheelFilename):
        return None  # the installer says what is wrong with it
