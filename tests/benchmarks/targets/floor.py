"""The floors: what gRPC in Python costs when the host does nothing.

    floor.py PORT {constant|typed} {asyncio|uvloop|threads|core}

`constant` answers the same bytes whatever it gets; `typed` parses the real request and builds the real answer. `core` is the
host's own server, on uvloop.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc.aio
from flyteidl.admin import agent_pb2 as pb

SERVING = b"\x08\x01"
RESOURCE = pb.Resource(phase=2)
META = b'{"job_id": "job"}'
NAMES = ("noop_1", "noop_2")
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]


def list_agents():
    return pb.ListAgentsResponse(agents=[pb.Agent(name=name, supported_task_types=[name]) for name in NAMES])


def get_task(request):
    if request.task_category.name == "large":  # the size is in the resource meta
        size = int(request.resource_meta.split(b'"')[3])
        resource = pb.Resource(phase=3)
        resource.outputs.literals["o0"].scalar.primitive.string_value = "x" * size
        return pb.GetTaskResponse(resource=resource)
    return pb.GetTaskResponse(resource=pb.Resource(phase=2))


def create_task(request):
    assert request.template.type
    return pb.CreateTaskResponse(resource_meta=META)


CONSTANT = {
    "ListAgents": list_agents().SerializeToString(),
    "GetTask": pb.GetTaskResponse(resource=RESOURCE).SerializeToString(),
    "CreateTask": pb.CreateTaskResponse(resource_meta=META).SerializeToString(),
}
SYNC_ANSWER = pb.ExecuteTaskSyncResponse(header=pb.ExecuteTaskSyncResponseHeader(resource=pb.Resource(phase=3)))


def constant_handlers():
    def answering(answer):
        async def handle(request, context):
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    async def execute(requests, context):
        async for _ in requests:
            pass
        yield SYNC_ANSWER.SerializeToString()

    yield from ((name, answering(answer)) for name, answer in CONSTANT.items())
    yield "ExecuteTaskSync", grpc.stream_stream_rpc_method_handler(execute)


def typed_handlers():
    async def execute(requests, context):
        header = await anext(requests)
        assert header.header.template.type
        inputs = await anext(requests)
        assert inputs.WhichOneof("part") == "inputs"
        answer = pb.ExecuteTaskSyncResponseHeader(resource=pb.Resource(phase=3))
        yield pb.ExecuteTaskSyncResponse(header=answer)

    def typed(work, request):
        async def handle(message, context):
            return work(message)

        return grpc.unary_unary_rpc_method_handler(
            handle, request.FromString, lambda answer: answer.SerializeToString()
        )

    yield "ListAgents", typed(lambda _: list_agents(), pb.ListAgentsRequest)
    yield "GetTask", typed(get_task, pb.GetTaskRequest)
    yield "CreateTask", typed(create_task, pb.CreateTaskRequest)
    serialize = pb.ExecuteTaskSyncResponse.SerializeToString
    yield (
        "ExecuteTaskSync",
        grpc.stream_stream_rpc_method_handler(execute, pb.ExecuteTaskSyncRequest.FromString, serialize),
    )


def threaded_handlers():
    def answering(answer):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    def execute(requests, context):
        for _ in requests:
            pass
        yield SYNC_ANSWER.SerializeToString()

    yield from ((name, answering(answer)) for name, answer in CONSTANT.items())
    yield "ExecuteTaskSync", grpc.stream_stream_rpc_method_handler(execute)


class Handlers(grpc.GenericRpcHandler):
    """Whatever the service is called, the method's name decides."""

    def __init__(self, handlers, health):
        self._handlers = dict(handlers)
        self._handlers["Check"] = grpc.unary_unary_rpc_method_handler(health)

    def service(self, details):
        return self._handlers.get(details.method.rpartition("/")[2])


async def serve(port, kind):
    async def health(request, context):
        return SERVING

    server = await open_server("core", OPTIONS) if loop == "core" else grpc.aio.server(options=OPTIONS)
    handlers = typed_handlers() if kind == "typed" else constant_handlers()
    server.add_generic_rpc_handlers([Handlers(handlers, health)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


def serve_from_threads(port):
    server = grpc.server(ThreadPoolExecutor(10), options=OPTIONS)
    server.add_generic_rpc_handlers([Handlers(threaded_handlers(), lambda request, context: SERVING)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


port, kind, loop = sys.argv[1:]
if loop == "core":
    from connector_core.transport import open_server
if loop == "threads":
    serve_from_threads(port)
elif loop in ("uvloop", "core"):
    import uvloop

    uvloop.run(serve(port, kind))
else:
    asyncio.run(serve(port, kind))
