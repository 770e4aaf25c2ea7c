"""A connector's description is a value: it survives JSON and back, and compares by what it says."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connector_core.description import ConnectorDescription, PluginIdentity
from connector_core.operations import OPERATIONS, Kind
from connector_core.task import TaskCategory

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
optional_texts = st.none() | texts
seconds = st.floats(min_value=0.001, max_value=1e9)
descriptions = st.builds(
    ConnectorDescription,
    name=texts,
    plugin=st.builds(PluginIdentity, texts, optional_texts, optional_texts, optional_texts),
    categories=st.lists(st.builds(TaskCategory, texts, st.integers(0, 2**31 - 1)), max_size=4).map(tuple),
    side=st.sampled_from(["async", "sync"]),
    operations=st.dictionaries(st.sampled_from(list(OPERATIONS)), st.sampled_from(Kind)),
    deadlines=st.dictionaries(st.sampled_from(list(OPERATIONS)), seconds),
    min_poll_interval=seconds,
    risk=st.just("") | texts,
    risk_in_get=st.booleans(),
    metadata_risk=st.just("") | texts,
    implementation=st.just("") | texts,
    given_name=st.just("") | texts,
)


@given(descriptions)
def test_a_description_survives_json_and_back(description: ConnectorDescription) -> None:
    data = msgspec.json.encode(description)
    read = msgspec.json.decode(data, type=ConnectorDescription)
    assert read == description
    assert hash(read) == hash(description)
    assert msgspec.json.encode(read) == data


@given(descriptions)
def test_a_description_that_was_read_lists_as_the_one_that_was_written(description: ConnectorDescription) -> None:
    read = msgspec.json.decode(msgspec.json.encode(description), type=ConnectorDescription)
    assert read.to_flyte() == description.to_flyte()
    assert {name: kind.is_blocking for name, kind in read.operations.items()} == {
        name: kind.is_blocking for name, kind in description.operations.items()
    }
