"""A slice of the matrix: a light package of flyte's; `.ci/long bridges` runs it whole."""

import sys
from pathlib import Path

import pytest

from tests.long.bridges import PAGE, page
from tests.support.bridge_probe import BY_ITS_CLASS, SAME
from tests.support.environments import run, uv
from tests.support.matrix import GROUPS, Examined, Group, Place, Row, examine


@pytest.mark.slow
def test_a_package_from_the_registry_is_listed_and_served_and_its_resource_metas_come_back(tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(uv(), "pip", "install", "--quiet", "--no-deps", "--target", site, "flyteplugins-slurm")
    place = Place(Path(sys.executable), {"PYTHONPATH": str(site)})
    result = examine(Group("slice", "flyte", ("flyteplugins-slurm",)), place, tmp_path)
    assert result.problems == ()
    assert {(row.plugin, *row.task_types, row.kind): row.verdict for row in result.rows} == {
        ("flyte/slurm", "slurm", "async"): SAME,
        ("flyte/slurm", "slurm_script", "async"): SAME,
    }


def test_the_page_says_what_is_served_and_what_is_not_and_why() -> None:
    group = Group("one", "flyte", ("good", "bad"), {"lib<3": "later ones have another face"})
    row = Row("good", "1.2", "flyte/good", "Good Connector", ("a", "b@1"), "async", BY_ITS_CLASS)
    text = page([Examined(group, (row,), {"bad": "no wheel for this platform"}, {"flyte/ugly": "ImportError: x"})])
    assert "With `lib<3`: later ones have another face." in text
    assert f"| good 1.2 | `flyte/good` | Good Connector | `a`, `b@1` | async | {BY_ITS_CLASS} |" in text
    assert "- `bad` cannot be installed: no wheel for this platform" in text
    assert "- `flyte/ugly` cannot be imported: ImportError: x" in text


def test_the_published_page_has_every_candidate() -> None:
    published = PAGE.read_text()
    names = [package.split("[")[0] for group in GROUPS for package in group.packages]
    assert [name for name in names if f"| {name} " not in published and f"`{name}` cannot be" not in published] == []
