"""What a job uses of the machine."""

import sys
from typing import Any

from google.protobuf.json_format import MessageToDict

from connector_plugin_process.usage import CPU, MEMORY


def test_cpu_and_memory_of_all_processes_come_as_prometheus_series(bench: Any) -> None:
    ready = bench.fifo("ready")
    burn = "import time\nheld = b'x' * 30_000_000\nwhile time.process_time() < 0.2: pass\n"
    child = f"{burn}open({str(ready)!r}, 'w').close()\ntime.sleep(1000)"
    meta = bench.start(
        sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {child!r}])"
    )
    ready.read_text()
    by_name = {one.metric: MessageToDict(one.data) for one in bench.connector.get_metrics(meta)}
    assert set(by_name) == {CPU, MEMORY}
    for data in by_name.values():
        assert data["resultType"] == "matrix"
        assert data["result"][0]["metric"] == {"job": meta.job_id, "host": meta.host}
    (((at, cores),), ((_, memory),)) = (by_name[name]["result"][0]["values"] for name in (CPU, MEMORY))
    assert at > 1e9
    assert float(cores) > 0
    assert int(memory) > 30_000_000


def test_only_the_metrics_asked_for_come(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    assert [one.metric for one in bench.connector.get_metrics(meta, [MEMORY, "SOMETHING_ELSE"])] == [MEMORY]
    assert bench.connector.get_metrics(meta, ["SOMETHING_ELSE"]) == []


def test_a_finished_job_uses_nothing(bench: Any) -> None:
    meta = bench.start("echo")
    bench.end(meta)
    assert bench.connector.get_metrics(meta) == []
