"""Wheels written straight away, without a build: what installers see is the same."""

import base64
import hashlib
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    code: str,
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    plugins: Sequence[str] | None = None,
    files: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the wheel of a distribution with one package, whose name is the distribution's, and `code` in it.

    Args:
        folder: where to put it.
        name: the distribution's name.
        code: the package's `__init__`.
        version: its version.
        requires: its requirements.
        plugins: the names of its plugins, all the package itself; the name's last word unless given.
        files: further files by their paths in the wheel.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    points = [f"{plugin} = {module}" for plugin in ([name.rsplit("-", 1)[-1]] if plugins is None else plugins)]
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    contents = {
        f"{module}/__init__.py": textwrap.dedent(code),
        **dict(files),
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if points:
        contents[f"{info}/entry_points.txt"] = "\n".join(["[connector_core.plugins]", *points]) + "\n"
    record = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
