"""The plugin on a real server, over real gRPC."""

import json
import tempfile
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate
from google.protobuf.json_format import MessageToDict, ParseDict

from connector_core import Phase, ResourceMeta
from connector_core.literals import to_python_map
from connector_core.testing import ConnectorContract, running_server
from connector_plugin_process.config import read_config
from connector_plugin_process.connector import ProcessConnector, ProcessMeta


class TestContract(ConnectorContract):
    longest_block = 5  # it starts processes, which takes its time on a busy machine

    @pytest.fixture(autouse=True)
    def _state(self, bench: Any) -> None:
        self.bench = bench

    def make_connector(self) -> ProcessConnector:
        connector: ProcessConnector = self.bench.new_connector()
        return connector

    def make_template(self) -> TaskTemplate:
        template: TaskTemplate = self.bench.task("echo", "hello")
        return template

    def unknown_job(self) -> ResourceMeta:
        known: ProcessMeta = self.bench.start("echo")
        return ProcessMeta("unknown", known.host, 1, 1)


async def finished(host: Any, resource_meta: bytes) -> Any:
    """Follow the job's logs to their end, when it has ended too."""
    async for _ in host.get_logs("process", resource_meta, lines=0):
        pass
    return await host.get("process", resource_meta)


async def test_a_job_goes_through_every_call(bench: Any) -> None:
    gate = bench.fifo("gate")
    task = bench.task("sh", "-c", f"echo one; echo two; read line < {gate}; echo $line")
    async with running_server(bench.connector) as host:
        meta = await host.create(task, output_prefix="s3://b/x/0")
        assert await host.create(task, output_prefix="s3://b/x/0") == meta
        assert Phase((await host.get("process", meta)).phase) is Phase.RUNNING

        metrics = await host.get_metrics("process", meta)
        assert [MessageToDict(one.data)["resultType"] for one in metrics.results] == ["matrix", "matrix"]

        lines: list[str] = []
        async for message in host.get_logs("process", meta, lines=0):
            lines += message.body.results
            if "two" in message.body.results:
                gate.write_text("three\n")
        assert lines == ["one", "two", "three"]

        page = [message async for message in host.get_logs("process", meta, lines=2)]
        assert [line for message in page for line in message.body.results] == ["one", "two"]
        (token,) = [message.header.token for message in page if message.header.token]
        rest = [message async for message in host.get_logs("process", meta, lines=2, token=token)]
        assert [line for message in rest for line in message.body.results] == ["three"]
        assert not any(message.header.token for message in rest)

        over = await finished(host, meta)
        assert Phase(over.phase) is Phase.SUCCEEDED
        assert to_python_map(over.outputs) == {"exit_code": 0, "stdout": "one\ntwo\nthree\n"}
        assert list((await host.get_metrics("process", meta)).results) == []


async def test_a_job_is_stopped_by_delete(bench: Any) -> None:
    async with running_server(bench.connector) as host:
        meta = await host.create(bench.task("sh", "-c", "sleep 1000"), output_prefix="s3://b/x/0")
        await host.delete("process", meta)
        await host.delete("process", meta)
        assert Phase((await host.get("process", meta)).phase) is Phase.ABORTED
    assert bench.processes_of(ProcessMeta.decode(meta)) == []


async def test_inputs_reach_the_command(bench: Any) -> None:
    async with running_server(bench.connector) as host:
        meta = await host.create(bench.task("echo", "{{.inputs.n}}"), {"n": 3}, output_prefix="s3://b/x/0")
        assert to_python_map((await finished(host, meta)).outputs)["stdout"] == "3\n"


async def test_a_job_survives_its_server(bench: Any) -> None:
    gate = bench.fifo("gate")
    async with running_server(bench.new_connector()) as host:
        meta = await host.create(bench.task("sh", "-c", f"cat {gate}"), output_prefix="s3://b/x/0")
    gate.write_text("late\n")
    async with running_server(bench.new_connector()) as host:
        assert to_python_map((await finished(host, meta)).outputs)["stdout"] == "late\n"


async def test_another_host_answers_unavailable_naming_the_owner(bench: Any) -> None:
    meta = bench.shell("sleep 1000")
    with tempfile.TemporaryDirectory() as elsewhere:
        other = ProcessConnector(read_config({"allow": ["/bin/sh"], "state": elsewhere}))
        settings = {"ride_out": {"failures": 0}, "deadlines": {"get": 0.5}}
        async with running_server(other, settings=settings) as host:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await host.get("process", meta.encode())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert meta.host in (caught.value.details() or "")


async def test_a_handle_of_the_wrong_shape_is_refused(bench: Any) -> None:
    handle = json.loads(bench.start("echo").encode())
    async with running_server(bench.connector) as host:
        for wrong in ({**handle, "pid": "one"}, {"job_id": "x"}, {**handle, "job_id": "../../etc"}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await host.get("process", json.dumps(wrong).encode())
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_host_serves_it_only_when_executables_are_allowed(tmp_path: Path) -> None:
    module = "connector_plugin_process.plugin"
    async with running_server(plugins=[module]) as host:
        assert await host.list_connectors() == []
    section = {module: {"allow": ["/bin/echo"], "state": str(tmp_path)}}
    async with running_server(plugins=[module], settings={"plugins": section}) as host:
        (agent,) = await host.list_connectors()
        assert agent.name == "Process"
        task = ParseDict({"type": "process", "custom": {"argv": ["echo", "hi"]}}, TaskTemplate())
        meta = await host.create(task, output_prefix="s3://b/x/0")
        assert to_python_map((await finished(host, meta)).outputs)["stdout"] == "hi\n"
