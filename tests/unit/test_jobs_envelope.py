"""Resource metas of the host's own are told from a connector's, and a signature lets nothing altered through."""

import pytest
from flyteidl.admin import agent_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_core import Phase
from connector_core.errors import (
    ConnectorError,
    InvalidRequestError,
    InvalidResourceMetaError,
    PermissionDeniedError,
)
from connector_core.jobs.envelope import JobPromise, Promise, Signer, Unsigned, seal, seal_promise, unseal

KEY = b"a key of this host's operator"
NEXT_KEY = b"the key that comes after it"
PLAIN = [b"", b"{}", b'{"job_id": "1"}', b"\x0a\x01x", b"\x80\x04}.", b"\x00", b"\x00connector-hos"]
KNOWN = seal(agent_pb2.Resource(phase=Phase.FAILED.value, message="no such table"))

metas = st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda tail: b"\x00connector-host/" + tail))


@pytest.mark.parametrize("meta", PLAIN)
def test_a_connectors_own_meta_passes_untouched(meta: bytes) -> None:
    assert unseal(meta) is None
    assert Unsigned().sign("job", meta) == meta
    assert Unsigned().verify("job", meta) == meta


def test_a_sealed_resource_comes_out_as_it_went_in() -> None:
    resource = agent_pb2.Resource(phase=Phase.SUCCEEDED.value, message="done")
    resource.outputs.literals["x"].scalar.primitive.integer = 42
    assert unseal(seal(resource)) == resource


@pytest.mark.parametrize(
    ("meta", "form"), [(b"\x00connector-host/2/resource\x00what is new", "2/resource"), (b"\x00connector-host/", "")]
)
def test_a_form_that_is_not_known_is_named(meta: bytes, form: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"has the form '{form}', which this host does not know"):
        unseal(meta)


def test_a_long_form_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        unseal(b"\x00connector-host/" + b"x" * 10_000)
    assert len(str(caught.value)) < 300


def test_a_damaged_resource_is_said_to_be() -> None:
    with pytest.raises(InvalidResourceMetaError, match="damaged"):
        unseal(KNOWN[:-3])


@pytest.mark.parametrize("phase", [0, 99])
def test_a_sealed_resource_in_no_phase_is_refused(phase: int) -> None:
    with pytest.raises(InvalidResourceMetaError, match="damaged"):
        unseal(seal(agent_pb2.Resource(phase=phase)))  # type: ignore[arg-type] # what the wire can carry


def test_a_sealed_resource_that_is_not_over_is_refused() -> None:
    with pytest.raises(InvalidResourceMetaError, match="damaged"):
        unseal(seal(agent_pb2.Resource(phase=Phase.RUNNING.value)))


def test_a_promise_comes_out_as_it_went_in() -> None:
    promise = Promise("0123abcd", 1.5e9)
    assert unseal(seal_promise(promise)) == promise


@pytest.mark.parametrize(
    "body", [b"", b"[", b"{}", b"[]", b'["a"]', b'["a", "b"]', b"[1, 2.0]", b"1", b"\xff", b"null", rb'["\ud800", 1.5]']
)
@pytest.mark.parametrize("form", [b"1/promise", b"1/job"])
def test_a_damaged_promise_is_said_to_be(form: bytes, body: bytes) -> None:
    with pytest.raises(InvalidResourceMetaError, match="the promise in the resource meta is damaged"):
        unseal(b"\x00connector-host/" + form + b"\x00" + body)


@pytest.mark.parametrize("promise", [Promise("key", 1.5), JobPromise("key", 1.5)])
def test_promises_of_results_and_of_jobs_are_told_apart(promise: Promise | JobPromise) -> None:
    read = unseal(seal_promise(promise))
    assert read == promise
    assert type(read) is type(promise)


@settings(deadline=None)
@given(meta=metas)
def test_no_bytes_at_all_crash_it(meta: bytes) -> None:
    for signer in (Unsigned(), Signer([KEY])):
        try:
            last_word = unseal(signer.verify("job", meta))
        except ConnectorError:
            continue
        assert not isinstance(last_word, Promise | JobPromise)
        assert last_word is None or Phase(last_word.phase).is_terminal


@settings(deadline=None)
@given(meta=metas, task_type=st.text(max_size=20))
def test_what_was_signed_is_given_back(meta: bytes, task_type: str) -> None:
    signer = Signer([KEY])
    assert signer.verify(task_type, signer.sign(task_type, meta)) == meta


@settings(deadline=None)
@given(meta=metas, data=st.data())
def test_any_altered_byte_is_refused(meta: bytes, data: st.DataObject) -> None:
    signed = bytearray(Signer([KEY]).sign("job", meta))
    position = data.draw(st.integers(0, len(signed) - 1))
    signed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PermissionDeniedError):
        Signer([KEY, NEXT_KEY]).verify("job", bytes(signed))


@settings(deadline=None)
@given(meta=metas, data=st.data())
def test_any_part_of_what_was_signed_is_refused(meta: bytes, data: st.DataObject) -> None:
    signed = Signer([KEY]).sign("job", meta)
    length = data.draw(st.integers(0, len(signed) - 1))
    with pytest.raises(PermissionDeniedError):
        Signer([KEY]).verify("job", signed[:length])
    with pytest.raises(PermissionDeniedError):
        Signer([KEY]).verify("job", signed + signed[: length + 1])


@settings(deadline=None)
@given(meta=metas)
def test_nothing_unsigned_passes(meta: bytes) -> None:
    with pytest.raises(PermissionDeniedError, match=r"not signed|does not have|altered"):
        Signer([KEY]).verify("job", meta)


@pytest.mark.parametrize("meta", [*PLAIN, KNOWN])
def test_an_unsigned_meta_is_refused_with_the_reason(meta: bytes) -> None:
    with pytest.raises(PermissionDeniedError, match="is not signed, and this host takes only signed ones"):
        Signer([KEY]).verify("job", meta)


def test_a_signature_holds_for_one_connector() -> None:
    with pytest.raises(PermissionDeniedError, match="of another"):
        Signer([KEY]).verify("other", Signer([KEY]).sign("job", b"{}"))


def test_a_name_and_a_meta_cannot_be_shifted_into_each_other() -> None:
    with pytest.raises(PermissionDeniedError):
        Signer([KEY]).verify("jo", Signer([KEY]).sign("job", b"{}").replace(b"{}", b"b{}"))


def test_a_signature_of_a_key_that_is_not_there_is_refused() -> None:
    with pytest.raises(PermissionDeniedError, match="with a key that this host does not have"):
        Signer([NEXT_KEY]).verify("job", Signer([KEY]).sign("job", b"{}"))


def test_keys_are_rotated_without_a_gap() -> None:
    """Every host first learns the next key, then signs with it, then forgets the old one."""
    before, learnt, changed, after = Signer([KEY]), Signer([KEY, NEXT_KEY]), Signer([NEXT_KEY, KEY]), Signer([NEXT_KEY])
    old, new = before.sign("job", b"{}"), after.sign("job", b"{}")
    assert (learnt.sign("job", b"{}"), changed.sign("job", b"{}")) == (old, new)
    assert [signer.verify("job", old) for signer in (before, learnt, changed)] == [b"{}"] * 3
    assert [signer.verify("job", new) for signer in (learnt, changed, after)] == [b"{}"] * 3
    with pytest.raises(PermissionDeniedError):
        after.verify("job", old)


def test_a_key_given_twice_signs_as_one() -> None:
    assert Signer([KEY, KEY]).sign("job", b"{}") == Signer([KEY]).sign("job", b"{}")


def test_where_signing_is_switched_off_a_signature_is_taken_off() -> None:
    assert Unsigned().verify("job", Signer([KEY]).sign("job", b'{"job_id": "1"}')) == b'{"job_id": "1"}'
    assert unseal(Unsigned().verify("job", Signer([KEY]).sign("job", KNOWN))) == unseal(KNOWN)


def test_where_signing_is_switched_off_half_a_signature_is_called_what_it_is() -> None:
    with pytest.raises(InvalidResourceMetaError, match="cut short"):
        Unsigned().verify("job", Signer([KEY]).sign("job", b"{}")[:30])
