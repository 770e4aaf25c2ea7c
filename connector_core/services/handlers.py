"""Servicers into gRPC, with raw bytes both ways.

A deserializer that raises inside `grpc.aio` is answered UNKNOWN, so decoding is left to the servicers, which answer
INVALID_ARGUMENT and can pass good bytes on unread.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import grpc

Method = TypeVar("Method", bound=Callable[..., Any])

_MAKE: Mapping[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def takes_stream(method: Method) -> Method:
    """Mark a servicer's method that takes a stream of requests."""
    method.__dict__["takes_stream"] = True
    return method


def raw_handler(service: str, servicer: object) -> grpc.GenericRpcHandler:
    """Return the handler that gives each method of a service to the servicer's method of the same name.

    The servicer's class says which there are, and what streams; the protocol's descriptors say the same, and take as long to
    import as all of the services.

    Args:
        service: its full name.
        servicer: each method of its class whose name is capitalised is one of the service; asynchronous generators stream.
    """
    names = [name for name in vars(type(servicer)) if name[0].isupper()]
    methods = {name: _handler(getattr(servicer, name)) for name in names}
    handler: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(service, methods)
    return handler


def _handler(method: Callable[..., Any]) -> Any:
    return _MAKE[hasattr(method, "takes_stream"), inspect.isasyncgenfunction(method)](method)
