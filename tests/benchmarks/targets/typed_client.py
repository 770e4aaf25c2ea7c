"""A typed client for either protocol: writes the requests that are measured, and checks a server's answers to them.

    typed_client.py {1|2} write            prints the requests as JSON, each with its path and its bytes in base64
    typed_client.py {1|2} check ADDRESS    makes each call once, checks the answer, and prints its size in bytes

Runs in the environment of the server, since only that has the messages. `n00000000` in the bytes is what a load generator
replaces, so that each call is about a task of its own.
"""

import base64
import json
import sys

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

SECOND = sys.argv[1] == "2"
if SECOND:
    from flyteidl2.connector import connector_pb2 as pb
    from flyteidl2.core import execution_pb2, identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2
    from flyteidl2.task import common_pb2
else:
    from flyteidl.admin import agent_pb2 as pb
    from flyteidl.core import execution_pb2, identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2

SERVICE = "flyteidl2.connector.AsyncConnectorService" if SECOND else "flyteidl.service.AsyncAgentService"
SYNC_SERVICE = "flyteidl.service.SyncAgentService"
RUNNING = execution_pb2.TaskExecution.RUNNING
NUMBER = "n00000000"

INTEGER, FLOAT, STRING, BOOLEAN, DATETIME = 1, 2, 3, 4, 5
ENVIRONMENT = {"WAREHOUSE": "wh-large.analytics.internal.example", "REGION": "eu-central-1", "TEAM": "growth"}
CONFIG = {"connection": "warehouse-analytics-production", "result_bucket": "s3://analytics-results/daily"}
ANNOTATIONS = {"owner": "growth@example.com", "runbook": "https://wiki.example.com/runbooks/sessions"}


def scalar(**fields):
    primitive = literals_pb2.Primitive(**fields)
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))


def collection(*texts):
    literals = [scalar(string_value=text) for text in texts]
    return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=literals))


def mapping(**numbers):
    literals = {name: scalar(integer=number) for name, number in numbers.items()}
    return literals_pb2.Literal(map=literals_pb2.LiteralMap(literals=literals))


def simple(kind):
    return types_pb2.LiteralType(simple=kind)


INPUTS = {  # name: type and value
    "table": (simple(STRING), scalar(string_value="analytics.events.sessions_by_country_and_day")),
    "where": (simple(STRING), scalar(string_value="day BETWEEN '2025-01-01' AND '2025-01-31'")),
    "limit": (simple(INTEGER), scalar(integer=250_000)),
    "sample": (simple(FLOAT), scalar(float_value=0.125)),
    "dry_run": (simple(BOOLEAN), scalar(boolean=False)),
    "as_of": (simple(DATETIME), scalar(datetime=Timestamp(seconds=1_735_689_600))),
    "countries": (types_pb2.LiteralType(collection_type=simple(STRING)), collection("DE", "FR", "JP")),
    "limits": (types_pb2.LiteralType(map_value_type=simple(INTEGER)), mapping(rows=10**6, bytes=10**9)),
}


def inputs():
    literals = {name: value for name, (_, value) in INPUTS.items()}
    if SECOND:
        named = [common_pb2.NamedLiteral(name=name, value=value) for name, value in literals.items()]
        return common_pb2.Inputs(literals=named)
    return literals_pb2.LiteralMap(literals=literals)


def interface():
    variables = {
        name: interface_pb2.Variable(type=kind, description=f"what {name} says") for name, (kind, _) in INPUTS.items()
    }
    if SECOND:
        entries = [interface_pb2.VariableEntry(key=name, value=value) for name, value in variables.items()]
        return interface_pb2.TypedInterface(inputs=interface_pb2.VariableMap(variables=entries))
    return interface_pb2.TypedInterface(inputs=interface_pb2.VariableMap(variables=variables))


def template(task_type):
    task = identifier_pb2.Identifier(
        resource_type=identifier_pb2.TASK,
        project="analytics",
        domain="production",
        name="workflows.sessions.query_sessions_by_country",
        version="git-8f3c2ab9d1e04f67",
    )
    made = tasks_pb2.TaskTemplate(id=task, type=task_type, interface=interface())
    made.sql.statement = "SELECT * FROM {{ .inputs.table }} WHERE {{ .inputs.where }} LIMIT {{ .inputs.limit }}"
    made.custom.update({"warehouse": "wh-large", "priority": "batch", "max_bytes_billed": 10**12})
    made.metadata.runtime.version = "1.16.0"
    made.metadata.retries.retries = 3
    made.config.update(CONFIG)
    return made


def execution():
    made = pb.TaskExecutionMetadata(
        namespace="analytics-production",
        k8s_service_account="default",
        labels={"execution-id": NUMBER, "project": "analytics", "domain": "production"},
        annotations=ANNOTATIONS,
        environment_variables=ENVIRONMENT,
    )
    identity = made.task_execution_id
    node = identity.node_execution_id
    node.node_id = "n0-0-dn0"
    node.execution_id.project, node.execution_id.domain, node.execution_id.name = "analytics", "production", NUMBER
    return made


PREFIX = f"s3://flyte-metadata/analytics/production/{NUMBER}/n0/data/0"


def create(task_type):
    return pb.CreateTaskRequest(
        inputs=inputs(), template=template(task_type), output_prefix=PREFIX, task_execution_metadata=execution()
    )


def get(task_type):
    category = pb.TaskCategory(name=task_type)
    meta = json.dumps({"job_id": NUMBER}).encode()
    return pb.GetTaskRequest(task_category=category, resource_meta=meta, output_prefix=PREFIX)


def sync(task_type):
    header = pb.CreateRequestHeader(
        template=template(task_type), output_prefix=PREFIX, task_execution_metadata=execution()
    )
    return [pb.ExecuteTaskSyncRequest(header=header), pb.ExecuteTaskSyncRequest(inputs=inputs())]


CALLS = {
    "get": (SERVICE, "GetTask", [get("noop_1")]),
    "create": (SERVICE, "CreateTask", [create("create_unused")]),
    "create_used": (SERVICE, "CreateTask", [create("create_used")]),
    **({} if SECOND else {"sync": (SYNC_SERVICE, "ExecuteTaskSync", sync("sync"))}),
}


MORE = {
    "plain": (SERVICE, "GetTask", [get("plain")]),
    "brief_blocking": (SERVICE, "GetTask", [get("blocking")]),
    "blocking": (SERVICE, "CreateTask", [create("blocking")]),
    "wrongly_async": (SERVICE, "CreateTask", [create("wrongly_async")]),
    "list": ("flyteidl2.connector.ConnectorMetadataService", "ListConnectors", [pb.ListConnectorsRequest()])
    if SECOND
    else ("flyteidl.service.AgentMetadataService", "ListAgents", [pb.ListAgentsRequest()]),
}


def write():
    for name, (service, method, messages) in {**CALLS, **MORE}.items():
        parts = [base64.b64encode(message.SerializeToString()).decode() for message in messages]
        yield name, {"path": f"/{service}/{method}", "messages": parts}


def check(address):
    """Make each call by the protocol's own stub and hold the answer to what any server has to say."""
    with grpc.insecure_channel(address) as channel:
        for name, (service, method, messages) in CALLS.items():
            answer_type = getattr(pb, f"{method}Response")
            make = channel.stream_stream if method == "ExecuteTaskSync" else channel.unary_unary
            call = make(f"/{service}/{method}", lambda message: message.SerializeToString(), answer_type.FromString)
            if method == "ExecuteTaskSync":
                (answer,) = call(iter(messages), timeout=10)
                assert answer.header.resource.phase == execution_pb2.TaskExecution.SUCCEEDED, answer
            else:
                answer = call(messages[0], timeout=10)
            if method == "GetTask":
                assert answer.resource.phase == RUNNING, answer
            if method == "CreateTask":
                assert json.loads(answer.resource_meta) == {"job_id": "job"}, answer
            yield name, answer.ByteSize()


print(json.dumps(dict(write() if sys.argv[2] == "write" else check(sys.argv[3]))))
