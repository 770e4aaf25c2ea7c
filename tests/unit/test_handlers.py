"""The servicers have the methods that the protocol's descriptors say they have, and stream where those stream."""

from types import SimpleNamespace

from google.protobuf.descriptor import MethodDescriptor

from connector_core.jobs import Jobs, open_memory
from connector_core.metrics import Metrics
from connector_core.observing.recorder import Recorder
from connector_core.registry import ConnectorRegistry
from connector_core.services.generations import Generations
from connector_core.services.handlers import raw_handler
from connector_core.settings import Settings
from tests.support.places import local_invoker


async def test_each_method_of_the_protocol_is_answered_as_its_descriptor_says() -> None:
    settings, metrics = Settings(protocols="both"), Metrics()
    invoker = local_invoker(metrics)
    jobs = Jobs(invoker, open_memory(settings.memory), settings)
    generations = Generations(settings)
    servicers = generations.servicers(ConnectorRegistry(), jobs, Recorder(metrics))
    assert list(servicers) == list(generations.names)
    try:
        for descriptor in generations.descriptors():
            handler = raw_handler(descriptor.full_name, servicers[descriptor.full_name])
            for method in descriptor.methods:
                found = handler.service(SimpleNamespace(method=f"/{descriptor.full_name}/{method.name}"))
                assert found is not None, method.full_name
                assert (found.request_streaming, found.response_streaming) == streams(method), method.full_name
    finally:
        await invoker.close(1)


def streams(method: MethodDescriptor) -> tuple[bool, bool]:
    return method.client_streaming, method.server_streaming


def test_the_services_are_named_in_the_order_of_their_descriptors() -> None:
    for protocols in ("v1", "both"):
        generations = Generations(Settings(protocols=protocols))
        assert list(generations.names) == [one.full_name for one in generations.descriptors()]
