"""The page about these proofs names the versions that were run."""

from tests.proofs.distributions import FAKESNOW, FLYTE, OF_CLOUDS, OF_OPENAI, SERVER
from tests.support.environments import ROOT


def test_the_page_names_what_was_run() -> None:
    page = (ROOT / "docs/reference/bridged-connectors-proofs.md").read_text()
    pinned = [name for name in [*SERVER, *OF_OPENAI, *OF_CLOUDS, FAKESNOW[0], *FLYTE] if "==" in name]
    assert [name for name in pinned if f"`{name}`" not in page] == []
