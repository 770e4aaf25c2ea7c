"""What may be connected to, however it is written and whatever DNS says next."""

import ipaddress
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connector_core import InvalidInputError, PermissionDeniedError
from connector_plugin_http.client import Client, NotSentError, Request
from connector_plugin_http.config import Endpoint, load_config
from connector_plugin_http.guard import ForbiddenAddressError, Guard, is_public, plain

from .conftest import LOOPBACK, Backend, answers


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
        # IPv4 addresses that are written as IPv6 ones.
        *("::ffff:127.0.0.1", "::ffff:a00:1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::"),
    ],
)
def test_what_is_not_of_the_internet_is_refused_naming_the_line_that_allows_it(address: str) -> None:
    assert not is_public(plain(address))
    with pytest.raises(ForbiddenAddressError, match=r"private_networks.*\[plugins\.http\.endpoints\.there\]"):
        Guard("there").check("name.example", address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_is_of_the_internet_is_allowed(address: str) -> None:
    assert Guard("there").check("name.example", address) == address


def test_a_network_that_the_operator_names_is_allowed_and_its_neighbour_is_not() -> None:
    guard = Guard("there", [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert guard.check("name", address) == address
    with pytest.raises(ForbiddenAddressError):
        guard.check("name", "10.2.0.1")


class Dns:
    """Names that are at other addresses each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def client(url: str, dns: Any = None, **endpoint: Any) -> Client:
    section = {"endpoints": {"there": {"url": url, **endpoint}}}
    return Client("there", load_config(section).endpoints["there"], dns)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "127.1", "localhost", "localhost."),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    ],
)
async def test_a_loopback_address_is_refused_however_it_is_spelt(echo: Backend, host: str) -> None:
    one = client(f"http://{host}:{echo.port}")
    # The client or the system may not know the spelling.
    with pytest.raises((ForbiddenAddressError, NotSentError, InvalidInputError)) as caught:
        await one.send(Request("GET"))
    said = caught.value.message
    assert isinstance(caught.value, ForbiddenAddressError) or "resolved" in said or "Invalid IPv4" in said
    await one.close()
    assert echo.received == []


async def test_a_name_that_leads_elsewhere_later_is_asked_at_the_address_that_was_checked(echo: Backend) -> None:
    dns = Dns(["127.0.0.1"], ["10.0.0.1"])
    one = client(f"http://api.example.org:{echo.port}", dns, private_networks=LOOPBACK)
    assert (await one.send(Request("GET"))).status == 200
    assert dns.asked == 1
    await one.close()  # the next connection resolves again, and is refused
    with pytest.raises(ForbiddenAddressError, match=r"10\.0\.0\.1"):
        await one.send(Request("GET"))
    assert len(echo.received) == 1


async def test_a_name_with_one_forbidden_address_among_its_own_is_refused(echo: Backend) -> None:
    one = client(
        f"http://api.example.org:{echo.port}", Dns(["127.0.0.1", "169.254.169.254"]), private_networks=LOOPBACK
    )
    with pytest.raises(ForbiddenAddressError, match=r"169\.254"):
        await one.send(Request("GET"))


async def test_a_proxy_of_the_environment_is_not_used(echo: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    one = client(echo.url, private_networks=LOOPBACK)
    assert (await one.send(Request("GET"))).status == 200
    await one.close()


@pytest.mark.parametrize(
    "location",
    [
        *("http://169.254.169.254/latest", "http://127.0.0.1:9/", "//127.0.0.1:9/", "https://127.0.0.1/api"),
        *("/elsewhere", "/api/../elsewhere", "/api/%2e%2e/elsewhere", "/apix", "file:///etc/passwd", "gopher://x"),
        *("http://user:word@127.0.0.1:{port}/api", "http://127.0.0.1:{port}\\@evil.example/api"),
    ],
)
async def test_a_redirect_out_of_the_endpoint_is_not_followed(echo: Backend, location: str) -> None:
    echo.faults.append(answers(302, {"Location": location.format(port=echo.port)}))
    one = client(f"{echo.url}/api", private_networks=LOOPBACK)
    with pytest.raises(PermissionDeniedError, match="not below"):
        await one.send(Request("GET", path="/x"))
    await one.close()
    assert len(echo.received) == 1


async def test_a_redirect_within_the_endpoint_is_followed_a_few_times(echo: Backend) -> None:
    one = client(f"{echo.url}/api", private_networks=LOOPBACK)
    echo.faults += [answers(303, {"Location": "/api/result?n=1"}), answers(307, {"Location": "other"})]
    assert (await one.send(Request("GET", path="/x", query={"q": "1"}))).json["target"] == "/api/other"
    assert [one.target for one in echo.received] == ["/api/x?q=1", "/api/result?n=1", "/api/other"]
    echo.faults += [answers(302, {"Location": "/api/x"})] * 10
    with pytest.raises(Exception, match="redirected more than"):
        await one.send(Request("GET", path="/x"))
    echo.faults[:] = [answers(302, {"Location": "/api/x"})]
    assert (await one.send(Request("POST", path="/x", body={}))).status == 302  # a POST is not sent as something else
    await one.close()


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://user:word@x", "http://x/?q=1", "http://x/#f", "x", "http://x:port"]
)
def test_a_url_that_is_not_an_endpoints_is_refused(url: str) -> None:
    with pytest.raises(Exception, match=r"\[plugins\.http\]"):
        load_config({"endpoints": {"there": {"url": url}}})


def test_hosts_and_ports_are_compared_as_what_they_mean() -> None:
    assert Endpoint("http://API.example.org").origin == Endpoint("http://api.example.org:80/x").origin
    assert Endpoint("https://api.example.org").origin != Endpoint("http://api.example.org").origin


@pytest.fixture
def secure(echo: Backend, tmp_path: Path) -> Path:
    """Have the backend speak TLS as api.example.org; the certificate's file."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=api.example.org", "-addext", "subjectAltName=DNS:api.example.org"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    echo.stop()
    echo.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    echo.tls.load_cert_chain(certificate, key)
    echo.start()
    return certificate


async def test_a_certificate_is_checked_against_the_name_and_not_the_address(echo: Backend, secure: Path) -> None:
    for name, is_trusted in (("api.example.org", True), ("other.example.org", False)):
        dns = Dns(["127.0.0.1"])
        one = client(f"https://{name}:{echo.port}", dns, private_networks=LOOPBACK, ca_file=str(secure))
        if is_trusted:
            assert (await one.send(Request("GET"))).status == 200
        else:
            with pytest.raises(NotSentError, match="certificate"):
                await one.send(Request("GET"))
        await one.close()
    unknown = client(f"https://api.example.org:{echo.port}", Dns(["127.0.0.1"]), private_networks=LOOPBACK)
    with pytest.raises(NotSentError, match="certificate"):
        await unknown.send(Request("GET"))
    await unknown.close()
