"""The console in a real Chromium: what people see, live, in both colour schemes, on a phone, by keyboard and read aloud."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import grpc.aio
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from connector_core.description import PluginIdentity
from connector_core.errors import BackendUnavailableError
from connector_core.plugins import FailedPlugin, PluginLoadResult, SkippedPlugin
from connector_core.registry import ConnectorRegistry
from connector_core.server import ConnectorServer
from connector_core.settings import Settings
from connector_core.testing import RunningServer, running_server
from tests.fakes import JobMeta, Jobs
from tests.support.browsers import CHROMIUM, LAUNCH

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]

PATIENCE_MS = 10_000
LONG = "a_task_type_with_a_name_that_goes_on_and_on_and_on_for_longer_than_any_phone_is_wide"
FAILED = PluginLoadResult(
    failed=(
        FailedPlugin(
            PluginIdentity("warehouse", "connector-plugin-warehouse", "2.3"),
            "ModuleNotFoundError: No module named 'acme'\nis it installed?",
            "",
            0.1,
        ),
    ),
    skipped=(SkippedPlugin(PluginIdentity("big", "connector-plugin-big", "1"), "blocked by --block-plugin"),),
)
Scheme = Literal["light", "dark"]
CUT_OFF = """
[...document.querySelectorAll("body *:not(svg *, .visually-hidden, thead, thead *)")]
  .filter(one => one.tagName === "TD" || getComputedStyle(one).overflowX !== "visible")
  .filter(one => one.scrollWidth > one.clientWidth + 1)
  .map(one => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 60)}`)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="browser")
async def _browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**LAUNCH)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(browser: Browser, server: ConnectorServer, path: str = "/", **more: Any) -> AsyncIterator[Page]:
    """Open the page; what the browser complains of fails the test, a connection that goes away but for."""
    context: BrowserContext = await browser.new_context(**more)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"http://127.0.0.1:{server.http_port}{path}")
    try:
        yield page
    finally:
        await context.close()
    assert [one for one in complaints if "net::ERR" not in one] == []


@asynccontextmanager
async def a_host(http_port: int = 0, plugins: PluginLoadResult = FAILED) -> AsyncIterator[RunningServer]:
    """Serve two connectors beside a plugin that failed, one of which is away."""

    def away() -> JobMeta:
        raise BackendUnavailableError("away")

    registry = ConnectorRegistry()
    registry.register(Jobs("etl"), plugin=PluginIdentity("etl", "connector-plugin-etl", "1.0"))
    registry.register(Jobs(LONG, create=away), plugin=PluginIdentity("ml", "connector-plugin-ml", "1.0"))
    server = ConnectorServer(registry, Settings(port=0, http_port=http_port, grace=0), plugins)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield RunningServer(server, channel)
    finally:
        await server.stop()


async def some_calls(host: RunningServer) -> None:
    """Make calls that go well, and some that do not."""
    meta = await host.create("etl")
    for number in range(3):
        await host.get("etl", meta, output_prefix=f"s3://bucket/metadata/propeller/project-domain-{number}/n0/data/0")
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await host.create(LONG)


def live(page: Page) -> Any:
    return expect(page.locator("html[data-link=live]"))


async def test_a_call_that_is_made_appears_without_loading_the_page_anew(browser: Browser) -> None:
    async with running_server(Jobs("etl")) as host, opened(browser, host.server) as page:
        await expect(page.get_by_text("No call has ended yet")).to_be_visible()
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        await page.evaluate("window.isTheSamePage = true")
        await host.create("etl")
        row = page.get_by_role("table", name="Recent calls").get_by_role("row").nth(1)
        await expect(row).to_contain_text("OK")
        await expect(row).to_contain_text("create")
        await expect(row).to_contain_text("etl")
        connector = page.get_by_role("table", name="Connectors").get_by_role("row").nth(1)
        await expect(connector.get_by_role("img").first).to_have_accessible_name("1 calls in 5 minutes, 0 failed")
        assert await page.evaluate("window.isTheSamePage")


async def test_a_failed_plugin_opens_to_its_reason_by_keyboard_and_stays_open(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server) as page:
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        reason = page.locator("#plugins").get_by_text("is it installed?")
        await expect(reason).to_be_hidden()
        await page.locator("#plugins summary").focus()
        await page.keyboard.press("Enter")
        await expect(reason).to_be_visible()
        await expect(page.locator("#plugins")).to_contain_text("connector-host doctor warehouse")
        await some_calls(host)
        await expect(page.locator("#attention")).to_contain_text("100 % of the calls of connector")
        await expect(reason).to_be_visible()
        assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"
        await expect(page).to_have_title("Ready, 2 problems · " + socket.gethostname() + " · connector-host")


async def test_the_filter_works_by_keyboard_and_says_what_it_found(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server) as page:
        await some_calls(host)
        rows = page.get_by_role("table", name="Recent calls").get_by_role("row")
        await expect(rows).to_have_count(8)
        await page.keyboard.press("/")
        await page.keyboard.type("Project-domain-2")
        await expect(rows).to_have_count(2)
        await expect(page.get_by_role("status")).to_have_text("1 call that matches, of 7 kept")
        assert page.url.endswith("/?q=Project-domain-2")
        await page.keyboard.press("Control+A")
        await page.keyboard.press("Backspace")
        await page.get_by_label("Status").select_option("failed")
        await expect(rows).to_have_count(4)
        await page.reload()
        await expect(rows).to_have_count(4)
        await expect(page.get_by_label("Status")).to_have_value("failed")
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        await host.create("etl")
        await expect(page.locator("#calls-list")).to_contain_text("3 calls that match, of 8 kept")


async def test_a_page_outlives_a_restart_of_its_host(browser: Browser) -> None:
    """As `serve --reload` does it: another host on the same port, with more in it."""
    async with a_host() as first, opened(browser, first.server) as page:
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        await page.evaluate("window.isTheSamePage = true")
        port = first.server.http_port
        await first.server.stop()
        await expect(page.locator("html[data-link=lost]")).to_be_attached()
        await expect(page.locator("#lost")).to_contain_text("The host does not answer")
        await expect(page.get_by_role("status")).to_contain_text("The host does not answer")
        async with a_host(port, PluginLoadResult()) as second:
            await live(page).to_be_attached(timeout=PATIENCE_MS)
            await expect(page.locator("#lost")).to_be_hidden()
            await expect(page.locator("#attention")).to_contain_text("Nothing needs attention")
            await second.create("etl")
            await expect(page.locator("#calls-list")).to_contain_text("create")
        assert await page.evaluate("window.isTheSamePage")


async def test_a_page_can_be_paused_and_goes_on_from_where_the_host_is(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server) as page:
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#link")).to_contain_text("Paused at")
        await host.create("etl")
        await expect(page.get_by_text("No call has ended yet")).to_be_visible()
        await page.get_by_role("button", name="Go on").click()
        await expect(page.locator("#calls-list")).to_contain_text("create")


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
async def test_it_follows_the_scheme_of_the_browser_until_another_is_chosen(
    browser: Browser, scheme: Scheme, other: Scheme
) -> None:
    def is_dark(colour: str) -> bool:
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 3 * 128

    background = "getComputedStyle(document.body).backgroundColor"
    async with a_host() as host, opened(browser, host.server, color_scheme=scheme) as page:
        assert is_dark(await page.evaluate(background)) is (scheme == "dark")
        theme = page.get_by_role("button", name="Theme:")
        while not (await theme.inner_text()).endswith(other):
            await theme.click()
        assert is_dark(await page.evaluate(background)) is (other == "dark")
        await page.reload()
        assert is_dark(await page.evaluate(background)) is (other == "dark")
        await expect(theme).to_have_text(f"Theme: {other}")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_axe_finds_nothing_serious(browser: Browser, scheme: Scheme, width: int) -> None:
    screen = {"width": width, "height": 900}
    async with a_host() as host, opened(browser, host.server, color_scheme=scheme, viewport=screen) as page:
        await some_calls(host)
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        await expect(page.locator("#attention")).to_contain_text("100 % of the calls")
        await page.locator("#plugins summary").click()
        found = await Axe().run(page)
    serious = [one for one in found.response["violations"] if one["impact"] in {"serious", "critical"}]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in serious] == []
    assert found.response["passes"]


async def test_nothing_is_wider_than_the_screen(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server) as page:
        await some_calls(host)
        await expect(page.locator("#calls-list")).to_contain_text(LONG)
        await page.locator("#plugins summary").click()
        for width in (320, 390, 768, 1024):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            widest = (
                "Math.max(...[...document.querySelectorAll('tbody tr')].map(row => row.getBoundingClientRect().right))"
            )
            assert await page.evaluate(widest) <= width


@pytest.mark.parametrize("width", [320, 390])
async def test_nothing_is_cut_off_on_a_phone(browser: Browser, width: int) -> None:
    async with a_host() as host:
        await some_calls(host)
        async with opened(browser, host.server, viewport={"width": width, "height": 844}) as page:
            await expect(page.locator("#calls-list")).to_contain_text(LONG)
            await expect(page.locator("#calls-list")).to_contain_text("away")
            await page.evaluate("document.querySelector('.bad .word').textContent = 'FAILED_PRECONDITION'")
            assert await page.evaluate(CUT_OFF) == []


async def test_a_table_is_a_table_for_screen_readers_on_a_phone_too(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server, viewport={"width": 390, "height": 800}) as page:
        await some_calls(host)
        table = page.get_by_role("table", name="Connectors")
        await expect(table.get_by_role("columnheader")).to_have_count(8)
        row = table.get_by_role("row").filter(has_text="etl connector")
        await expect(row.get_by_role("rowheader")).to_contain_text("etl connector")
        await expect(row.get_by_role("cell")).to_have_count(7)


async def test_without_javascript_all_of_it_is_there(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server, java_script_enabled=False) as page:
        await some_calls(host)
        await page.reload()
        await expect(page.locator("#attention")).to_contain_text("Plugin warehouse failed to load")
        await page.locator("#plugins summary").click()
        await expect(page.locator("#plugins").get_by_text("is it installed?")).to_be_visible()
        await expect(page.get_by_text("Reload the page for news")).to_be_visible()
        await page.get_by_label("Find").fill("project-domain-1")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_role("table", name="Recent calls").get_by_role("row")).to_have_count(2)
        await expect(page.get_by_role("button")).to_have_count(1)


async def test_those_who_want_no_motion_get_none(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server, reduced_motion="reduce") as page:
        await live(page).to_be_attached(timeout=PATIENCE_MS)
        assert await page.evaluate("document.getAnimations().length") == 0


async def test_the_first_tab_stop_leads_to_the_content(browser: Browser) -> None:
    async with a_host() as host, opened(browser, host.server) as page:
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


async def test_a_script_that_gets_into_the_page_does_not_run(browser: Browser) -> None:
    async with a_host() as host:
        context = await browser.new_context()
        page = await context.new_page()
        refused: list[str] = []
        page.on("console", lambda said: refused.append(said.text))
        await page.goto(f"http://127.0.0.1:{host.server.http_port}/")
        await page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.broken = 1';"
            " document.body.append(s); document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"broken=1\">') }"
        )
        assert await page.evaluate("window.broken") is None
        await context.close()
    assert [text for text in refused if "Content Security Policy" in text]


async def test_the_command_of_a_problem_can_be_copied(browser: Browser) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with a_host() as host, opened(browser, host.server, permissions=permissions) as page:
        await page.locator("#attention").get_by_role("button", name="Copy").click()
        await expect(page.get_by_role("status")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == "connector-host doctor warehouse"
