"""Who passes, and that the time it takes to refuse a token tells nothing of the tokens that there are."""

import hmac
from typing import Any

import pytest
from starlette.datastructures import Headers

from connector_core.http.gateway.guard import Guard, host_name
from connector_core.http.gateway.refusals import Refused
from connector_core.settings import Settings

TOKENS = (b"0123456789abcdef", b"fedcba9876543210")


def guard(*hosts: str) -> Guard:
    return Guard(Settings(gateway_hosts=hosts), TOKENS)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:9090", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:9090", "::1"),
        ("[FE80::1]", "fe80::1"),
        ("::1", "::1"),
        ("fe80::a:1", "fe80::a:1"),
        ("host.with-dash_and.dots", "host.with-dash_and.dots"),
        ("", ""),
        (":9090", ""),
        ("a b", ""),
        ("a@b", ""),
        ("a/b", ""),
        ("a:b", ""),
        ("localhost:", ""),
        ("[::1", ""),
        ("[evil]", ""),
        ("localhost\n", ""),
    ],
)
def test_a_host_header_is_read_strictly(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize("token", ["", "0", "0123456789abcde", "0123456789abcdeX", "X" * 16, "0123456789abcdef"])
def test_every_token_is_compared_in_constant_time_whatever_is_brought(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    compare = hmac.compare_digest

    def watched(brought: Any, known: Any) -> bool:
        compared.append(known)
        return compare(brought, known)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    headers = Headers({"host": "localhost", "authorization": f"Bearer {token}"})
    if token.encode() in TOKENS:
        guard().check(headers, "127.0.0.1")
    else:
        with pytest.raises(Refused) as refused:
            guard().check(headers, "127.0.0.1")
        assert refused.value.http_status == 401
    assert compared == list(TOKENS)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", ""])
def test_an_address_that_means_all_addresses_is_nobodys_name(wildcard: str) -> None:
    headers = Headers({"host": f"[{wildcard}]" if ":" in wildcard else wildcard})
    with pytest.raises(Refused) as refused:
        guard(wildcard).check(headers, "127.0.0.1")
    assert refused.value.http_status == 403


def test_two_origins_are_both_looked_at() -> None:
    raw = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")]
    with pytest.raises(Refused) as refused:
        guard().check(Headers(raw=raw), "127.0.0.1")
    assert "evil.example" in refused.value.details
