"""What requests say of themselves is read off their bytes."""

import pytest
from flyteidl.admin import agent_pb2

from connector_core.protocol.decoding import size_of_inputs


def request(length: int | None) -> agent_pb2.CreateTaskRequest:
    made = agent_pb2.CreateTaskRequest(output_prefix="s3://bucket/0")
    made.template.type = "job"
    if length is not None:
        made.inputs.literals["x"].scalar.primitive.string_value = "x" * length
    return made


@pytest.mark.parametrize("length", [None, 0, 1, 100, 105, 110, 1000, 16_000, 16_400, 100_000, 3_000_000])
def test_the_size_of_the_inputs_is_the_one_that_the_request_has(length: int | None) -> None:
    made = request(length)
    assert size_of_inputs(made.SerializeToString(), made.inputs) == made.inputs.ByteSize()


def test_inputs_that_are_there_and_empty_have_no_size() -> None:
    made = request(None)
    made.inputs.SetInParent()
    assert size_of_inputs(made.SerializeToString(), made.inputs) == 0


def test_the_size_of_inputs_that_do_not_come_first_is_right_too() -> None:
    made, rest = request(1000), request(None)
    inputs = agent_pb2.CreateTaskRequest(inputs=made.inputs).SerializeToString()
    raw = rest.SerializeToString() + inputs
    assert agent_pb2.CreateTaskRequest.FromString(raw) == made
    assert size_of_inputs(raw, made.inputs) == made.inputs.ByteSize()
