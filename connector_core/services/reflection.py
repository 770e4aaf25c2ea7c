"""gRPC's reflection; few hosts ever need it, so the implementation is imported with the first call."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
_V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under another name; clients ask for it first, and newer ones for nothing else."""


class ReflectionHandler(grpc.GenericRpcHandler):
    """Finds the handler of a call of reflection.

    Args:
        descriptors: returns those of the services that are served, beside health and reflection.
    """

    def __init__(self, descriptors: Callable[[], Sequence[ServiceDescriptor]]) -> None:
        self._descriptors = descriptors
        self._handler: grpc.RpcMethodHandler | None = None

    def service(self, handler_call_details: Any) -> Any:
        """Return the method's handler; `None` for other services' methods."""
        service, _, method = handler_call_details.method.removeprefix("/").partition("/")
        if service not in {_V1, _V1ALPHA} or method != "ServerReflectionInfo":
            return None
        if self._handler is None:
            self._handler = self._make()
        return self._handler

    def _make(self) -> grpc.RpcMethodHandler:
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        health = health_pb2.DESCRIPTOR.services_by_name["Health"]
        pool = _Pool(reflection_pb2.DESCRIPTOR)
        names = (*(one.full_name for one in (*self._descriptors(), health)), _V1ALPHA, _V1)
        handler: grpc.RpcMethodHandler = grpc.stream_stream_rpc_method_handler(
            reflection.aio.ReflectionServicer(names, pool).ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return handler


class _Pool:
    """The default pool of descriptors, and the file of reflection's v1, which no package of Python has.

    It is not added to the default pool, where it would clash with the file of a package that has it one day.
    """

    def __init__(self, v1alpha: FileDescriptor) -> None:
        from google.protobuf import descriptor_pool, text_format
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        file = FileDescriptorProto()
        v1alpha.CopyToProto(file)
        # The two differ in nothing but the version's name.
        v1 = text_format.Parse(text_format.MessageToString(file).replace("v1alpha", "v1"), FileDescriptorProto())
        self._name: str = v1.name
        self._own: Any = descriptor_pool.DescriptorPool()
        self._own.Add(v1)
        self._default: Any = descriptor_pool.Default()

    def FindFileByName(self, name: str) -> Any:
        """Find a file."""
        return (self._own if name == self._name else self._default).FindFileByName(name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Find the file of a service or a message."""
        is_own = symbol.startswith(_V1.removesuffix("ServerReflection"))
        return (self._own if is_own else self._default).FindFileContainingSymbol(symbol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._default, name)
