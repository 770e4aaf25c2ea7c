"""A collector of traces: OpenTelemetry's own protocol, over real gRPC, into a list."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_PATIENCE = 60


def attributes(of: Any) -> dict[str, Any]:
    """Return the attributes of a span, an event or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What hosts have exported."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.resources: list[dict[str, Any]] = []
        self._spans: list[Span] = []
        self._news = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:
        """Take spans."""
        with self._news:
            for group in request.resource_spans:
                self.resources.append(attributes(group.resource))
                self._spans += [span for scope in group.scope_spans for span in scope.spans]
            self._news.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, name: str) -> list[Span]:
        """Return the spans of a name that have arrived."""
        return [span for span in self._spans if span.name == name]

    def only(self, name: str) -> Span:
        """Return the one span of a name.

        Raises:
            AssertionError: there is none, or more than one, with all that there are.
        """
        found = self.spans(name)
        assert len(found) == 1, [span.name for span in self._spans]
        return found[0]


@contextmanager
def collector() -> Iterator[Collector]:
    """Collect on a free port of the loopback address until the block ends."""
    server = grpc.server(ThreadPoolExecutor(2))
    service = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    service.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait(_PATIENCE)
