"""The site builds without a warning, and asks nobody else for anything."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.environments import ROOT, run

pytest.importorskip("mkdocs", reason="the site is built with it")
pytest.importorskip("mkdocstrings", reason="the API page is made by it")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder, cwd=ROOT, NO_MKDOCS_2_WARNING="1")
    return folder


@pytest.mark.slow
def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    wanted = {page for page in pages if page.parts[0] != "changelog.d"}
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}
    assert {page.parent if page.name == "index" else page for page in wanted} == built


@pytest.mark.slow
def test_the_api_page_has_the_signatures(site: Path) -> None:
    page = (site / "reference" / "api" / "index.html").read_text()
    assert 'id="connector_core.AsyncConnectorBase.create"' in page
    assert 'id="connector_core.testing.running_server"' in page


@pytest.mark.slow
def test_a_reader_is_sent_nowhere_for_fonts_and_scripts(site: Path) -> None:
    fetched = re.findall(
        r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\"> ]+)", (site / "index.html").read_text()
    )
    assert fetched == []
