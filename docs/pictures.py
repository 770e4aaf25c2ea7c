"""Takes the pictures of the console in docs/assets: a host, the first-party plugins, one that fails, and real calls.

    python -m docs.pictures [--seconds 150] [--into docs/assets]

It needs Debian's `chromium`, and looks best with the packages fonts-inter and fonts-jetbrains-mono.
"""

import argparse
import asyncio
import itertools
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import grpc.aio
from flyteidl.admin import agent_pb2
from flyteidl.core.identifier_pb2 import (
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub, SyncAgentServiceStub
from google.protobuf.json_format import ParseDict
from playwright.async_api import Browser, async_playwright

from connector_core.literals import to_literal_map
from tests.support.browsers import LAUNCH
from tests.support.distributions import SitePackages
from tests.support.hosts import host_process

ROOT = Path(__file__).resolve().parent.parent

SETTINGS = """
[plugins.process]
allow = ["/bin/echo", "/bin/false"]
"""
NEEDS_A_CLIENT = "import acme_warehouse_client\n"
PICTURES: dict[str, tuple[Literal["light", "dark"], int, int, str]] = {
    "console-light": ("light", 1280, 1010, ""),
    "console-dark": ("dark", 1280, 1010, ""),
    "console-phone": ("light", 390, 844, ""),
    "console-calls": ("light", 1280, 640, "?status=failed#calls"),
}

_ids = itertools.count(1)
_chance = random.Random(7)  # the same mixture of calls each time


class Engine:
    """Makes the calls that Flyte's engine would make."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._jobs = AsyncAgentServiceStub(channel)
        self._sync = SyncAgentServiceStub(channel)
        self._metadata = AgentMetadataServiceStub(channel)

    async def sleep(self, seconds: float) -> None:
        """Run a job to its end, with polls."""
        prefix, metadata = self._attempt("etl-nightly")
        template = TaskTemplate(type="sleep")
        inputs = to_literal_map({"seconds": seconds})
        await self._follow("sleep", template, inputs, prefix, metadata)

    async def process(self, *argv: str) -> None:
        """The same for a command."""
        prefix, metadata = self._attempt("report-weekly")
        template = TaskTemplate(type="process")
        ParseDict({"argv": list(argv)}, template.custom)
        await self._follow("process", template, to_literal_map({}), prefix, metadata)

    async def query(self, sql: str) -> None:
        """Run a query, as a sync task."""
        prefix, metadata = self._attempt("features-hourly")
        template = TaskTemplate(type="duckdb_query")
        ParseDict({"query": sql}, template.custom)
        header = agent_pb2.CreateRequestHeader(
            template=template, output_prefix=prefix, task_execution_metadata=metadata
        )
        call = self._sync.ExecuteTaskSync(iter([agent_pb2.ExecuteTaskSyncRequest(header=header)]))
        await call.read()
        call.cancel()

    async def listed(self) -> None:
        """Ask what is served."""
        await self._metadata.ListAgents(agent_pb2.ListAgentsRequest())

    async def unknown(self) -> None:
        """Ask for what nothing here serves."""
        await self._jobs.CreateTask(agent_pb2.CreateTaskRequest(template=TaskTemplate(type="warehouse_query")))

    async def _follow(
        self,
        task_type: str,
        template: TaskTemplate,
        inputs: LiteralMap,
        prefix: str,
        metadata: agent_pb2.TaskExecutionMetadata,
    ) -> None:
        request = agent_pb2.CreateTaskRequest(
            template=template, inputs=inputs, output_prefix=prefix, task_execution_metadata=metadata
        )
        meta = (await self._jobs.CreateTask(request)).resource_meta
        category = agent_pb2.TaskCategory(name=task_type)
        poll = agent_pb2.GetTaskRequest(task_category=category, resource_meta=meta, output_prefix=prefix)
        while (await self._jobs.GetTask(poll)).resource.phase < 4:  # noqa: ASYNC110 - polls, as the engine does
            await asyncio.sleep(0.4)

    def _attempt(self, workflow: str) -> tuple[str, agent_pb2.TaskExecutionMetadata]:
        number = next(_ids)
        run = f"{workflow}-{number * 7919 % 99991:05x}"
        node = f"n{number % 4}"
        execution = WorkflowExecutionIdentifier(project="analytics", domain="production", name=run)
        identity = TaskExecutionIdentifier(
            node_execution_id=NodeExecutionIdentifier(node_id=node, execution_id=execution), retry_attempt=0
        )
        prefix = f"s3://acme-flyte/metadata/propeller/analytics-production-{run}/{node}/data/0"
        return prefix, agent_pb2.TaskExecutionMetadata(task_execution_id=identity)


async def work(engine: Engine, seconds: float) -> None:
    """Make calls for so long, some of which fail."""
    kinds: list[tuple[float, Callable[[], Awaitable[None]]]] = [
        (0.35, lambda: engine.sleep(_chance.uniform(1, 6))),
        (0.9, lambda: engine.query("SELECT count(*) FROM range(400000) t(x) WHERE x % 7 = 3")),
        (3.7, lambda: engine.query(f"SELECT sum(sqrt(x)) FROM range({_chance.randrange(2, 9) * 1_000_000}) t(x)")),
        (31, lambda: engine.query("SELECT revenue FROM orders")),
        (2.3, lambda: engine.process("echo", "ready")),
        (7, lambda: engine.process("false")),
        (10, engine.listed),
        (41, engine.unknown),
        (19, lambda: engine.process("curl", "example.com")),
    ]

    async def again_and_again(pause: float, call: Callable[[], Awaitable[None]]) -> None:
        while True:
            await _ignore_status(call)
            await asyncio.sleep(pause * _chance.uniform(0.3, 1.7))

    running = [asyncio.create_task(again_and_again(pause, call)) for pause, call in kinds]
    await asyncio.sleep(seconds)
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _ignore_status(call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except grpc.aio.AioRpcError:
        return


async def take(browser: Browser, url: str, into: Path) -> None:
    """Take all pictures of the page."""
    for name, (scheme, width, height, place) in PICTURES.items():
        is_phone = width < 600
        page = await browser.new_page(
            color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=2 if is_phone else 1
        )
        await page.goto(url + place)
        await page.locator("html[data-link=live]").wait_for()
        await page.screenshot(path=into / f"{name}.png")
        await page.close()


async def main(seconds: float, into: Path) -> None:
    """Start a host, let it work, take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        packages = SitePackages(Path(folder))
        packages.add("warehouse", NEEDS_A_CLIENT, distribution="connector-plugin-warehouse", version="2.3.1")
        (Path(folder) / "connector-host.toml").write_text(SETTINGS)
        with host_process(cwd=Path(folder), PYTHONPATH=folder) as host:
            async with grpc.aio.insecure_channel(host.address) as channel, async_playwright() as playwright:
                await work(Engine(channel), seconds)
                browser = await playwright.chromium.launch(**LAUNCH)
                still = asyncio.create_task(work(Engine(channel), 60))
                await take(browser, host.metrics_url.removesuffix("metrics"), into)
                still.cancel()
                await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "assets")
    chosen = parser.parse_args()
    chosen.into.mkdir(exist_ok=True)
    asyncio.run(main(chosen.seconds, chosen.into))
