"""The soak, for a few seconds."""

from tests.long.soak import WORKERS, Report, Sample, conclude, faulty_host, soak_host

MOST_THREADS = WORKERS + 4
"""Those of the connector that blocks, the plugin's loop, and a few of asyncio's."""


async def test_a_host_with_plugins_that_go_wrong_answers_every_call_and_holds_no_more_than_it_may() -> None:
    with faulty_host() as host:
        report = await soak_host(host, 5, tasks=60)
        assert host.stop() == 0
    assert report.illegal == []
    assert {name.split()[0] for name in report.answered} >= {"CreateTask", "GetTask", "DeleteTask", "ListAgents"}
    first = report.samples[0]
    assert max(sample.threads for sample in report.samples) <= first.threads + MOST_THREADS
    assert max(sample.descriptors for sample in report.samples) <= first.descriptors + 10


def test_growth_is_noticed() -> None:
    flat = Report([Sample(second, 80 + second % 3, 20, 30, 0) for second in range(100)])
    assert not conclude(flat)
    growing = Report([Sample(second, 80 + second, 20 + second // 10, 30 + second // 10, 0) for second in range(100)])
    assert len(conclude(growing)) == 3
    late = Report([Sample(second, 80 + 30 * (second < 30), 20, 30, 0) for second in range(100)])
    assert not conclude(late)
    assert conclude(Report([Sample(0, 80, 20, 30, 0)], illegal=["GetTask was answered UNKNOWN"]))
