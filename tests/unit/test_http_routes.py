"""Routes come from the protocol's own options, and a path is for one of them."""

from typing import Any
from uuid import uuid4

import pytest
from flyteidl.admin import agent_pb2 as messages
from flyteidl.service import agent_pb2
from google.api.annotations_pb2 import http as http_option
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from grpc import StatusCode

from connector_core.http.gateway.refusals import Refused
from connector_core.http.gateway.routes import PathTemplate, Route, derive_routes, find

ROUTES = derive_routes(agent_pb2.DESCRIPTOR.services_by_name.values())


def service_with(*rules: HttpRule) -> ServiceDescriptor:
    """Return a service whose methods have these HTTP rules."""
    own = f"own{uuid4().hex}"  # the pool, which all share since extensions are known to it alone, takes a name once
    file = descriptor_pb2.FileDescriptorProto(name=f"{own}.proto", package=own)
    file.message_type.add(name="Asked").field.add(name="name", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    service = file.service.add(name="Own")
    for number, rule in enumerate(rules):
        method = service.method.add(name=f"Call{number}", input_type=f".{own}.Asked", output_type=f".{own}.Asked")
        method.options.Extensions[http_option].CopyFrom(rule)  # type: ignore[index] # its stub says FieldDescriptor
    pool: Any = descriptor_pool.Default()
    pool.Add(file)
    found: ServiceDescriptor = pool.FindServiceByName(f"{own}.Own")
    return found


def test_the_protocols_own_routes_are_all_there() -> None:
    assert {(route.verb, route.template.text): route.method.name for route in ROUTES} == {
        ("GET", "/api/v1/agents"): "ListAgents",
        ("GET", "/api/v1/agent/{name}"): "GetAgent",
        ("POST", "/api/v1/agent/task"): "CreateTask",
        ("POST", "/api/v1/agent/task/stream"): "ExecuteTaskSync",
        ("GET", "/api/v1/agent/task/{task_category.name}/{task_category.version}/{resource_meta}"): "GetTask",
        (
            "DELETE",
            "/api/v1/agent/task_executions/{task_category.name}/{task_category.version}/{resource_meta}",
        ): "DeleteTask",
        (
            "GET",
            "/api/v1/agent/task/metrics/{task_category.name}/{task_category.version}/{resource_meta}",
        ): "GetTaskMetrics",
        ("GET", "/api/v1/agent/task/logs/{task_category.name}/{task_category.version}/{resource_meta}"): "GetTaskLogs",
    }


def test_every_method_of_the_protocol_has_a_route() -> None:
    methods = {method.name for service in agent_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods}
    assert {route.method.name for route in ROUTES} == methods


def test_only_the_metadata_is_not_about_tasks() -> None:
    assert {route.method.name for route in ROUTES if not route.is_about_tasks} == {"GetAgent", "ListAgents"}


def test_a_further_binding_is_a_route_of_its_own() -> None:
    rule = HttpRule(get="/v1/{name}", additional_bindings=[HttpRule(post="/v1/things", body="name")])
    routes = derive_routes([service_with(rule)])
    assert [(route.verb, route.template.text, route.body) for route in routes] == [
        ("POST", "/v1/things", "name"),
        ("GET", "/v1/{name}", ""),
    ]


def test_a_method_without_a_rule_has_no_route() -> None:
    assert derive_routes([service_with(HttpRule())]) == ()


@pytest.mark.parametrize(
    "rule",
    [
        HttpRule(custom=CustomHttpPattern(kind="LOCK", path="/v1/x")),
        HttpRule(get="/v1/x", response_body="name"),
        HttpRule(get="/v1/{name=things/*}"),
        HttpRule(get="/v1/{name=**}"),
        HttpRule(get="/v1/**"),
        HttpRule(get="/v1/*"),
        HttpRule(get="/v1/x:lock"),
        HttpRule(get="/v1//x"),
        HttpRule(get="v1/x"),
    ],
    ids=str,
)
def test_a_rule_that_would_be_served_wrongly_is_refused(rule: HttpRule) -> None:
    with pytest.raises(ValueError, match="cannot be served"):
        derive_routes([service_with(rule)])


def test_a_template_binds_the_segments_that_are_fields() -> None:
    template = PathTemplate.parse("/v1/{a.b}/x/{c=*}")
    assert template.match(["v1", "one", "x", "two"]) == {"a.b": "one", "c": "two"}
    assert template.match(["v1", "", "x", ""]) == {"a.b": "", "c": ""}
    for other in (["v1", "one", "y", "two"], ["v1", "one", "x"], ["v1", "one", "x", "two", ""], []):
        assert template.match(other) is None


def found(verb: str, path: str) -> tuple[str, dict[str, str]]:
    route, bound = find(ROUTES, verb, path.encode())
    return route.method.name, bound


def test_an_encoded_slash_is_part_of_a_segment() -> None:
    assert found("GET", "/api/v1/agent/a%2Fb%20c%E2%98%83") == ("GetAgent", {"name": "a/b c\N{SNOWMAN}"})


def test_words_go_before_fields() -> None:
    assert found("GET", "/api/v1/agent/task/logs/x/0/e30")[0] == "GetTaskLogs"
    assert found("GET", "/api/v1/agent/task/logs/0/e30")[0] == "GetTask"
    assert found("GET", "/api/v1/agent/task") == ("GetAgent", {"name": "task"})


def test_words_may_be_encoded_as_well() -> None:
    assert found("GET", "/%61pi/v1/agents") == ("ListAgents", {})


@pytest.mark.parametrize("path", ["/", "", "/api/v1/agents/", "//api/v1/agents", "/api/v1/Agents", "/api%2Fv1/agents"])
def test_another_path_is_not_found(path: str) -> None:
    with pytest.raises(Refused) as refused:
        found("GET", path)
    assert (refused.value.http_status, refused.value.code) == (404, StatusCode.NOT_FOUND)


def test_another_method_is_told_which_there_are() -> None:
    with pytest.raises(Refused) as refused:
        found("DELETE", "/api/v1/agent/task")
    assert (refused.value.http_status, refused.value.headers) == (405, {"Allow": "GET, POST"})


def test_methods_are_those_whose_messages_the_descriptor_names() -> None:
    route: Route = next(route for route in ROUTES if route.method.name == "GetTask")
    assert route.method.input_type.full_name == messages.GetTaskRequest.DESCRIPTOR.full_name
