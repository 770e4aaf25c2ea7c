"""Traces through OpenTelemetry (extra `otel`); imported only where they are asked for."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import Token
from functools import partial
from typing import Any

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from connector_core.errors import ConnectorError
from connector_core.metrics import core_version
from connector_core.observing.call_records import REQUEST, CallRecord, Subject

Scrub = Callable[[str], str]
_PREFIX = "connector_host."
_NOT_TRACED = "/grpc."
"""Health and reflection, which are asked all the time."""


class Tracing:
    """A span for each call, of RPCs through OpenTelemetry's own instrumentation of gRPC, and one within it around plugin code.

    A program around the host that has set up OpenTelemetry keeps its setup, and gets the host's spans in it. Else spans are
    exported by OTLP, to where OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on).

    Args:
        scrub: takes secrets out of what is said of errors.
    """

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub
        provider = trace.get_tracer_provider()
        self._own: TracerProvider | None = None
        if not isinstance(provider, TracerProvider):
            provider = self._own = _exporting_provider()
            trace.set_tracer_provider(provider)  # plugins and their libraries find it there
        self._tracer = provider.get_tracer("connector_core", core_version())
        traced = aio_server_interceptor(
            tracer_provider=provider, filter_=lambda details: not details.method.startswith(_NOT_TRACED)
        )
        self.interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (_StreamsClosed(), traced)

    def begin(self, code: Subject) -> "PluginSpan":
        """Begin the span of plugin code: see `invocation.spans.Trace`."""
        request = REQUEST.get()
        # Without a request it is about many, or about none: then it is nobody's part.
        parent = otel.get_current() if request is not None else otel.Context()
        name = f"{code.operation} {code.connector}"
        span = self._tracer.start_span(name, parent, attributes=_attributes(code.within(request)._asdict()))
        return PluginSpan(span, parent, self._scrub)

    @contextmanager
    def serving(self, method: MethodDescriptor, headers: Mapping[str, str]) -> Iterator[None]:
        """Make the span of a call that came over HTTP, named and placed as the instrumentation of gRPC does it."""
        service = method.containing_service.full_name
        with self._tracer.start_as_current_span(
            f"/{service}/{method.name}",
            propagate.extract(headers, otel.Context()),
            trace.SpanKind.SERVER,
            {"rpc.service": service, "rpc.method": method.name},
            record_exception=False,
            set_status_on_exception=False,  # `describe` says how it ended
        ):
            yield

    def describe(self, record: CallRecord) -> None:
        """Say on an RPC's span what the RPC was about and what became of it."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attributes(_attributes(record.fields()))
        if record.code != "OK" and not record.is_callers_doing:
            span.set_status(trace.StatusCode.ERROR, record.code)

    def current_ids(self) -> Mapping[str, str]:
        """Return trace and span of the code that runs here, for lines of the log; nothing, where there is none."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}

    async def close(self, timeout: float) -> None:
        """Export what is left, for so many seconds at the most: the collector may be away."""
        own, self._own = self._own, None
        if own is not None:
            thread = threading.Thread(target=own.shutdown, name="last traces", daemon=True)
            thread.start()
            await asyncio.to_thread(thread.join, timeout)


class PluginSpan:
    """The span around a piece of plugin code."""

    __slots__ = ("_parent", "_scrub", "_span", "_token")

    def __init__(self, span: trace.Span, parent: otel.Context, scrub: Scrub) -> None:
        self._scrub = scrub
        self._span = span
        self._parent = parent
        self._token: Token[otel.Context] | None = None

    def enter(self) -> None:
        """Be the current span in this context."""
        self._token = otel.attach(trace.set_span_in_context(self._span, self._parent))

    def leave(self) -> None:
        """Be so no longer."""
        if self._token is not None:
            otel.detach(self._token)

    def end(self, error: BaseException | None) -> None:
        """End, with the error if it is one; the traceback stays in the log."""
        if isinstance(error, ConnectorError):
            raised, said = error.__cause__ or error, self._scrub(error.message)
            self._span.add_event("exception", {"exception.type": type(raised).__name__, "exception.message": said})
            self._span.set_status(trace.StatusCode.ERROR, said)
        self._span.end()


class _StreamsClosed(grpc.aio.ServerInterceptor):
    """Has streams end in the task that they ran in, when their client has gone.

    gRPC leaves an answering generator where it stands, to be closed by the garbage collector: in another context, where
    the span around the stream is not the current one and can be neither described nor left. The engine cancels every sync call.
    """

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wrap streams of answers."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler
        make: Any = grpc.unary_stream_rpc_method_handler
        behavior = handler.unary_stream
        if handler.request_streaming:
            make, behavior = grpc.stream_stream_rpc_method_handler, handler.stream_stream
        if not inspect.isasyncgenfunction(behavior):
            return handler
        return make(partial(_write_all, behavior), handler.request_deserializer, handler.response_serializer)


async def _write_all(behavior: Any, request: Any, context: Any) -> None:
    async with aclosing(behavior(request, context)) as answers:
        async for answer in answers:
            await context.write(answer)


def _exporting_provider() -> TracerProvider:
    # OpenTelemetry's own variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) go before what is said here.
    own = Resource.create({"service.name": "connector-host", "service.version": core_version()})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _attributes(values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{_PREFIX}{name}": value for name, value in values.items() if value}
