"""No proxy is asked for this machine, and one that is asked is named."""

import pytest

from connector_core.ports.proxies import NO_PROXY, proxy_of, proxy_options

PROXY = {"http_proxy": "http://me:secret@proxy.example:3128"}


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:8000",
        "127.8.9.1:8000",
        "[::1]:8000",
        "localhost:8000",
        "LOCALHOST.:8000",
        "a.localhost:8000",
        "dns:///localhost:8000",
        "dns://1.2.3.4/localhost:8000",
        "ipv4:127.0.0.1:8000",
        "ipv6:[::1]:8000",
        "unix:/run/host.sock",
        "unix:///run/host.sock",
        "unix-abstract:host",
    ],
)
def test_this_machine_is_reached_past_any_proxy(endpoint: str) -> None:
    assert proxy_options(endpoint) == [NO_PROXY]
    assert proxy_of(endpoint, PROXY) is None


@pytest.mark.parametrize(
    "endpoint",
    ["connectors.example:8000", "10.1.2.3:8000", "dns:///connectors.example:8000", "[fd00::1]:8000", "nonsense"],
)
def test_other_machines_are_reached_as_the_environment_says(endpoint: str) -> None:
    assert proxy_options(endpoint) == []
    assert proxy_of(endpoint, PROXY) == ("http://proxy.example:3128", "http_proxy")
    assert proxy_of(endpoint, {}) is None


def test_the_variable_that_counts_is_the_one_that_grpc_takes_first() -> None:
    environ = {**PROXY, "https_proxy": "http://second:1", "grpc_proxy": "http://first:1"}
    assert proxy_of("a.example:1", environ) == ("http://first:1", "grpc_proxy")
    assert proxy_of("a.example:1", {**environ, "grpc_proxy": ""}) is None


@pytest.mark.parametrize(
    ("no_proxy", "is_taken"), [("example", False), ("b.example, a.example", False), ("other", True)]
)
def test_hosts_that_the_environment_exempts_have_none(no_proxy: str, is_taken: bool) -> None:
    assert (proxy_of("a.example:1", {**PROXY, "no_proxy": no_proxy}) is not None) == is_taken


def test_a_proxy_that_cannot_be_read_is_not_shown() -> None:
    named = proxy_of("a.example:1", {"http_proxy": "http://[me:secret@"})
    assert named is not None
    assert "secret" not in named[0]
