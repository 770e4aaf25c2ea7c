"""A blocked event loop is reported once, with the culprit's name and stack."""

import asyncio
import logging

import pytest

from connector_core.description import PluginIdentity
from connector_core.invocation.offers import JobOffer
from connector_core.metrics import Metrics
from tests.fakes import PATIENCE, Gate, JobMeta, Jobs, eventually
from tests.support.places import described, local_invoker

THRESHOLD = 0.04


async def test_code_that_blocks_its_loop_is_named_once_and_the_lag_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    metrics, gate = Metrics(), Gate()

    async def block_the_loop() -> None:
        gate.block()

    connector = described(Jobs(delete=block_the_loop), PluginIdentity("warehouse"))
    invoker = local_invoker(metrics, stall_threshold=THRESHOLD)

    def lag() -> float:
        return metrics.registry.get_sample_value("flyte_connector_loop_lag_seconds", {"loop": "plugin warehouse"}) or 0

    with caplog.at_level(logging.WARNING):
        call = asyncio.create_task(invoker.invoke(connector, "delete", JobOffer(JobMeta("1").encode())))
        await gate.reached()
        await eventually(lambda: lag() > 3 * THRESHOLD)
        gate.open()
        await call
        await eventually(lambda: lag() == 0)
    await invoker.close(PATIENCE)
    reports = [record.getMessage() for record in caplog.records if "is blocked: no response" in record.getMessage()]
    culprit = [report for report in reports if "plugin warehouse" in report]
    assert len(culprit) == 1
    assert "running: plugin 'warehouse', connector 'job connector', delete(). Use `await`" in culprit[0]
    assert "block_the_loop" in culprit[0]
