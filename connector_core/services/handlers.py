"""Servicers into gRPC, with raw bytes both ways.

A deserializer that raises inside `grpc.aio` is answered UNKNOWN, so decoding is left to the servicers, which answer
INVALID_ARGUMENT and can pass good bytes on unread.
"""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

_MAKE: Mapping[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def raw_handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Return the handler that gives each method of `service` to the servicer's method of the same name."""
    methods = {
        method.name: _MAKE[method.client_streaming, method.server_streaming](getattr(servicer, method.name))
        for method in service.methods
    }
    handler: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(service.full_name, methods)
    return handler
