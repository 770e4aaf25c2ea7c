"""What an installation takes: distributions, and bytes of their files without byte-code."""

from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.figures import Effort, Figures
from tests.benchmarks.peers import site_packages
from tests.benchmarks.servers import Servers
from tests.support.environments import Venv


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Measure each environment; once is enough."""
    environments = make.environments
    venvs = {
        servers.PROTECTED: environments.bare,
        servers.FLYTEKIT: environments.flytekit,
        servers.FLYTE2: environments.flyte2,
    }
    return {"installed": {name: _size(venv) for name, venv in venvs.items()}}


def _size(venv: Venv) -> dict[str, list[float]]:
    folder = site_packages(venv)
    distributions = len(list(folder.glob("*.dist-info")))
    return {"megabytes": [_bytes(folder) / 1e6], "distributions": [float(distributions)]}


def _bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.suffix != ".pyc")
    return sum(path.lstat().st_size for path in files if path.is_file())
