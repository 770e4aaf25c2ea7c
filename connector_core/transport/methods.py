"""Handlers as gRPC's generated code makes them, prepared for calling."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc


class Method(NamedTuple):
    """A method, prepared for calls.

    Attributes:
        handler: as it was registered, for interceptors.
        behavior: takes the request, or an iterator of them, and the call.
        is_generator: whether that yields its answers.
        read: bytes to a request, where the servicer does not want the bytes.
        write: an answer to bytes, where it does not give them.
        streams_in: whether there are many requests.
        streams_out: whether there are many answers.
    """

    handler: grpc.RpcMethodHandler
    behavior: Callable[[Any, Any], Any]
    is_generator: bool
    read: Callable[[bytes], Any] | None
    write: Callable[[Any], bytes] | None
    streams_in: bool
    streams_out: bool


def prepare(handler: Any) -> Method:
    """Return how a handler is called."""
    streams_in, streams_out = bool(handler.request_streaming), bool(handler.response_streaming)
    behaviors = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }
    behavior = behaviors[streams_in, streams_out]
    is_generator = inspect.isasyncgenfunction(behavior)
    read, write = handler.request_deserializer, handler.response_serializer
    return Method(handler, behavior, is_generator, read, write, streams_in, streams_out)
