"""The page about moving from flytekit's server, followed with flytekit installed."""

from pathlib import Path

import pytest
import yaml

from tests.support.environments import ROOT, build_wheel
from tests.support.markdown import Reader, blocks

PAGE = ROOT / "docs" / "how-to" / "move-from-flytekit.md"


@pytest.mark.slow
def test_following_the_page_leads_from_flytekits_connector_to_a_native_one(reader: Reader, tmp_path: Path) -> None:
    wheel = build_wheel(ROOT / "connector_plugins" / "flytekit", tmp_path)
    with (tmp_path / "this-checkout.txt").open("a") as constraints:
        constraints.write(f"connector-plugin-flytekit @ {wheel.as_uri()}\n")
    reader.follow(PAGE)


def test_the_patch_for_the_chart_replaces_the_command_of_its_container() -> None:
    (block,) = [block for block in blocks(PAGE) if block.title == "connector-host-patch.yaml"]
    patch = yaml.safe_load(block.text)
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    assert (patch["metadata"]["name"], container["name"]) == ("flyteconnector", "flyteconnector")
    assert container["command"] == ["connector-host", "serve"]
    assert container["env"] == [{"name": "CONNECTOR_HOST__HOST", "value": "0.0.0.0"}]
