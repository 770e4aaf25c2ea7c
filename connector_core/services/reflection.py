"""gRPC's reflection, which few hosts are ever asked for: what answers is imported with the first call."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

_SERVICE = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionHandler(grpc.GenericRpcHandler):
    """Finds what answers a call of reflection.

    Args:
        descriptors: returns those of the services that are served, beside health and reflection.
    """

    def __init__(self, descriptors: Callable[[], Sequence[ServiceDescriptor]]) -> None:
        self._descriptors = descriptors
        self._handler: grpc.GenericRpcHandler | None = None

    def service(self, handler_call_details: Any) -> Any:
        """Return the method's handler; `None` for other services' methods."""
        if not handler_call_details.method.startswith(f"/{_SERVICE}/"):
            return None
        if self._handler is None:
            self._handler = self._make()
        return self._handler.service(handler_call_details)

    def _make(self) -> grpc.GenericRpcHandler:
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        health = health_pb2.DESCRIPTOR.services_by_name["Health"]
        names = (*(one.full_name for one in (*self._descriptors(), health)), _SERVICE)
        method = grpc.stream_stream_rpc_method_handler(
            reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        handler: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(
            _SERVICE, {"ServerReflectionInfo": method}
        )
        return handler
