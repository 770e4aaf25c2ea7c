"""The server from start to end: what it refuses to start with, health, reflection, and how it drains."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.core.execution_pb2 import TaskExecution
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from connector_core import Phase, Resource
from connector_core.errors import AddressInUseError, BackendUnavailableError, PluginLoadError
from connector_core.ports import grpc_options
from connector_core.services.generations import Generations
from connector_core.settings import Settings
from connector_core.testing import RunningServer, running_server
from connector_core.transport.core_server import CoreServer
from tests.fakes import PATIENCE, Answers, Gate, JobMeta, Jobs, Never, eventually, happens
from tests.support.rpc import details_of, refusal

META = JobMeta("7").encode()
PLUGIN = "test-job connector"
SERVICE_NAMES = [service.full_name for service in Generations(Settings(protocols="both")).descriptors()]


class TestPorts:
    async def test_a_second_server_on_the_grpc_port_fails_and_names_it(self) -> None:
        async with running_server(Jobs()) as host:
            port = host.server.port
            with pytest.raises(AddressInUseError, match=rf"gRPC port 127\.0\.0\.1:{port} .*--port"):
                await self.serve(port=port)
            assert await host.health() == "SERVING"

    async def test_a_second_server_on_the_http_port_fails_and_names_it(self) -> None:
        async with running_server(Jobs()) as host:
            port = host.server.http_port
            with pytest.raises(AddressInUseError, match=rf"HTTP port 127\.0\.0\.1:{port} .*--http-port"):
                await self.serve(http_port=port)
            assert await host.health() == "SERVING"

    @pytest.mark.parametrize("name", ["port", "http_port"])
    async def test_a_taken_port_is_found_before_any_connector_starts(self, name: str) -> None:
        calls = list[str]()
        connector = Jobs(start=lambda: calls.append("start"), close=lambda: calls.append("close"))
        async with running_server() as host:
            with pytest.raises(AddressInUseError):
                await self.serve(connector, **{name: getattr(host.server, name)})
        assert calls == []

    async def test_a_port_that_is_taken_while_the_connectors_start_closes_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_server: object, address: str) -> int:
            raise RuntimeError(address)

        calls = list[str]()
        connector = Jobs(start=lambda: calls.append("start"), close=lambda: calls.append("close"))
        monkeypatch.setattr(CoreServer, "add_insecure_port", refuse)
        with pytest.raises(AddressInUseError, match=r"gRPC port 127\.0\.0\.1:0 is taken"):
            await self.serve(connector, transport="core")
        assert calls == ["start", "close"]

    async def serve(self, *connectors: Jobs, **settings: Any) -> None:
        async with running_server(*connectors, settings=settings):
            pass

    async def test_free_ports_are_found_and_told(self) -> None:
        async with running_server() as one, running_server() as other:
            ports = {one.server.port, one.server.http_port, other.server.port, other.server.http_port}
        assert len(ports) == 4
        assert 0 not in ports


class TestStartingConnectors:
    """They start before the server listens; one that cannot is listed, refused, and tried again."""

    def away(self) -> None:
        raise BackendUnavailableError("no route to the warehouse")

    async def test_one_that_cannot_start_is_listed_and_its_calls_are_unavailable_with_the_reason(self) -> None:
        async with running_server(Jobs(start=self.away), Jobs("other")) as host:
            assert len(await host.list_connectors()) == 2
            for call in (host.create("job"), host.delete("job", META)):
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "could not be started: no route to the warehouse" in details_of(error)
            assert host.metric("flyte_connector_connector_started", plugin=PLUGIN, connector="job connector") == 0
            assert await host.health() == "SERVING"
            await host.create("other")

    async def test_it_serves_once_it_has_started(self) -> None:
        failures, started = [1], threading.Event()

        def start() -> None:
            if failures:
                failures.pop()
                self.away()
            started.set()

        async with running_server(Jobs(start=start)) as host:
            await refusal(host.delete("job", META))
            await happens(started)
            await eventually(
                lambda: host.metric("flyte_connector_connector_started", plugin=PLUGIN, connector="job connector") == 1
            )
            await host.delete("job", META)

    @pytest.mark.parametrize("settings", [{"require": [PLUGIN]}, {"strict": True}], ids=["require", "strict"])
    async def test_it_is_fatal_where_the_settings_say_so(self, settings: dict[str, Any]) -> None:
        with pytest.raises(PluginLoadError, match=r"'test-job connector' is required.*no route to the warehouse"):
            async with running_server(Jobs(start=self.away), settings=settings):
                pass

    async def test_one_that_hangs_holds_the_start_up_no_longer_than_its_time(self) -> None:
        never = Never()
        async with running_server(Jobs(start=never.wait), settings={"start_timeout": 0.05}) as host:
            error = await refusal(host.delete("job", META))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "deadline" in details_of(error)

    async def test_nothing_is_served_before_all_have_started(self) -> None:
        gate, closed = Gate(), threading.Event()
        server = running_server(Jobs(start=gate.block, close=closed.set))
        starting = asyncio.create_task(server.__aenter__())
        await gate.reached()
        assert not starting.done()
        gate.open()
        host = await starting
        assert await host.health() == "SERVING"
        await server.__aexit__(None, None, None)
        assert closed.is_set()


class TestHealthAndReflection:
    @pytest.mark.parametrize("service", ["", *SERVICE_NAMES])
    async def test_the_host_and_each_service_serve(self, service: str) -> None:
        async with running_server() as host:
            assert await host.health(service) == "SERVING"

    def test_these_are_the_protocols_services_of_both_generations(self) -> None:
        assert set(SERVICE_NAMES) == {
            "flyteidl.service.AsyncAgentService",
            "flyteidl.service.SyncAgentService",
            "flyteidl.service.AgentMetadataService",
            "flyteidl2.connector.AsyncConnectorService",
            "flyteidl2.connector.ConnectorMetadataService",
        }

    async def test_a_service_that_is_not_there_is_not_found(self) -> None:
        async with running_server() as host:
            assert (await refusal(host.health("made.up"))).code() is grpc.StatusCode.NOT_FOUND

    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_reflection_lists_the_services_and_their_methods(self, version: str) -> None:
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="flyteidl.service.AsyncAgentService"),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"
            ),
        ]
        async with running_server() as host:
            call = host.channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            listed, described, itself = [answer async for answer in call(iter(requests))]
        names = {service.name for service in listed.list_services_response.service}
        both = {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")}
        assert {*SERVICE_NAMES, "grpc.health.v1.Health", *both} <= names
        assert b"GetTaskLogs" in b"".join(described.file_descriptor_response.file_descriptor_proto)
        assert b"grpc.reflection.%b" % version.encode() in b"".join(
            itself.file_descriptor_response.file_descriptor_proto
        )


class TestTransport:
    def test_each_option_is_one_that_grpcs_core_knows(self) -> None:
        """It says nothing of others: the name of one in C, and the name in its text, are not always the same."""
        compiled = Path(cygrpc.__file__).read_bytes()
        assert [name for name, _ in grpc_options(Settings()) if name.encode() not in compiled] == []

    async def test_pings_every_10_seconds_and_more_are_not_punished(self) -> None:
        """`test_grpc_go.py` sends them, for a minute."""
        async with running_server() as host:
            options = dict(grpc_options(host.server.settings))
        assert options["grpc.http2.min_ping_interval_without_data_ms"] < 10_000
        assert options["grpc.keepalive_permit_without_calls"] == 1

    async def test_the_port_is_not_shared(self) -> None:
        async with running_server() as host:
            assert dict(grpc_options(host.server.settings))["grpc.so_reuseport"] == 0


class TestDraining:
    @contextlib.asynccontextmanager
    async def watched(self, host: RunningServer, service: str = "") -> AsyncIterator[Any]:
        """Watch a service's health, as clients with gRPC's health checking do for as long as they are connected."""
        stub = health_pb2_grpc.HealthStub(host.channel)
        call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        yield call
        call.cancel()

    @pytest.mark.parametrize("kind", ["blocking", "async"])
    async def test_calls_in_flight_finish_and_new_ones_are_refused(self, kind: str) -> None:
        gate = Gate()

        def create(inputs: dict[str, Any]) -> JobMeta:
            gate.block()
            return JobMeta(str(inputs["id"]))

        async def create_async(inputs: dict[str, Any]) -> JobMeta:
            return await asyncio.to_thread(create, inputs)

        connector = Jobs(create=create if kind == "blocking" else create_async)
        async with running_server(connector, settings={"workers": 20}) as host:
            calls = [asyncio.create_task(host.create("job", {"id": str(number)})) for number in range(20)]
            await gate.reached(20)
            async with self.watched(host) as health:
                stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
                assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await eventually_refused(host)
            assert not any(call.done() for call in calls)
            gate.open()
            metas = await asyncio.gather(*calls)
            await asyncio.wait_for(stopping, PATIENCE)
        assert metas == [JobMeta(str(number)).encode() for number in range(20)]

    async def test_a_sync_call_and_a_log_stream_finish_as_well(self) -> None:
        gate = Gate()

        def get_logs() -> Any:
            yield "first"
            gate.block()
            yield "last"

        def answer() -> Resource:
            gate.block()
            return Resource(Phase.SUCCEEDED)

        async with running_server(Jobs(get_logs=get_logs), Answers(do=answer)) as host:
            stream = host.get_logs("job", META)
            assert list((await anext(stream)).body.results) == ["first"]
            executing = asyncio.create_task(host.execute("answer"))
            await gate.reached(2)
            async with self.watched(host) as health:
                stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
                await health.read()
            gate.open()
            assert list((await anext(stream)).body.results) == ["last"]
            assert (await executing).phase == TaskExecution.SUCCEEDED
            await asyncio.wait_for(stopping, PATIENCE)

    @pytest.mark.parametrize("service", SERVICE_NAMES)
    async def test_every_service_is_not_serving_meanwhile(self, service: str) -> None:
        gate = Gate()
        async with running_server(Jobs(delete=gate.block)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            async with self.watched(host, service) as health:
                stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
                assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            gate.open()
            await asyncio.gather(call, stopping)

    @pytest.mark.parametrize("service", ["", "made.up"])
    async def test_a_client_that_watches_health_does_not_hold_it_up(self, service: str) -> None:
        """It watches for as long as it is connected, and would use up the whole grace of each roll-out."""
        async with running_server(Jobs()) as host:
            stub = health_pb2_grpc.HealthStub(host.channel)
            call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            first = await call.read()
            await asyncio.wait_for(host.server.stop(grace=PATIENCE * 10), PATIENCE)
            if first.status == health_pb2.HealthCheckResponse.SERVING:
                assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            error = await refusal(call.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE

    async def test_a_watch_that_its_client_ends_leaves_nothing_behind(self) -> None:
        async with running_server(Jobs()) as host:
            for _ in range(20):
                async with self.watched(host):
                    pass
            await eventually(lambda: not host.server._health._watches)

    async def test_what_is_not_over_at_the_end_of_the_grace_is_cut(self) -> None:
        never = Never()
        async with running_server(Jobs(delete=never.wait)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            await asyncio.wait_for(host.server.stop(grace=0.05), PATIENCE)
            error = await refusal(call)
        assert error.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        assert never.cancelled.is_set()

    async def test_code_that_blocks_for_ever_is_left_behind(self) -> None:
        gate = Gate()
        async with running_server(Jobs(delete=gate.block)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            await asyncio.wait_for(host.server.stop(grace=0), PATIENCE)
            await refusal(call)
        gate.open()

    async def test_connectors_are_closed_after_the_last_call_and_once(self) -> None:
        gate, calls = Gate(), list[str]()

        def delete() -> None:
            gate.block()
            calls.append("delete")

        async with running_server(Jobs(delete=delete, close=lambda: calls.append("close"))) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            async with self.watched(host) as health:
                stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
                await health.read()
            gate.open()
            await asyncio.gather(call, stopping)
            await host.server.stop()
        assert calls == ["delete", "close"]

    async def test_a_second_stop_ends_the_grace_of_the_first(self) -> None:
        never = Never()
        async with running_server(Jobs(delete=never.wait)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await happens(never.begun)
            async with self.watched(host) as health:
                first = asyncio.create_task(host.server.stop(grace=PATIENCE * 10))
                await health.read()
            await asyncio.wait_for(host.server.stop(grace=0), PATIENCE)
            await asyncio.wait_for(first, PATIENCE)
            await refusal(call)

    async def test_the_metrics_can_be_read_while_it_drains(self) -> None:
        gate = Gate()
        async with running_server(Jobs(delete=gate.block)) as host:
            call = asyncio.create_task(host.delete("job", META))
            await gate.reached()
            async with self.watched(host) as health:
                stopping = asyncio.create_task(host.server.stop(grace=PATIENCE))
                await health.read()
            assert "requests_in_flight" in await asyncio.to_thread(host.metrics_text)
            gate.open()
            await asyncio.gather(call, stopping)


async def test_the_harness_reaches_its_host_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with running_server(Jobs()) as host:
        assert await host.list_connectors()
        assert "flyte_connector_build_info" in await asyncio.to_thread(host.metrics_text)


async def eventually_refused(host: RunningServer) -> None:
    """Wait until new calls are refused: the server says so to its clients when it begins to drain."""
    code: grpc.StatusCode | None = None
    async with asyncio.timeout(PATIENCE):
        while code is None:
            try:
                await host.list_connectors()
            except grpc.aio.AioRpcError as error:
                code = error.code()
    # gRPC's core cancels a call that is on its way when the server stops, before the client has heard of that.
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
