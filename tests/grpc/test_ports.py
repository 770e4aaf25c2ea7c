"""Ports: which addresses they have, what callers meet before they are served, and who else can take them."""

import asyncio
import contextlib
import errno
import re
import socket
from collections.abc import Iterator

import pytest

from connector_core.errors import AddressInUseError
from connector_core.ports import Address, Port, grpc_options
from connector_core.registry import ConnectorRegistry
from connector_core.server import ConnectorServer
from connector_core.settings import Settings
from connector_core.testing import running_server
from connector_core.transport import open_server
from tests.fakes import PATIENCE, Gate, Jobs

LOOPBACK = ("127.0.0.1", "::1")


def answers(host: str, port: int) -> bool:
    """Whether something listens."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        if error.errno not in {errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH}:
            raise
        return False
    return True


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def port(host: str, number: int = 0) -> Iterator[Port]:
    """A port that is closed in the end."""
    made = Port("gRPC", Address(host, number))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["core", "aio"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
    async def test_both_ports_listen_on_the_same(self, host: str, transport: str) -> None:
        if host == "::1" and not has_ipv6():
            pytest.skip("no IPv6 here")
        async with running_server(settings={"host": host, "transport": transport}) as running:
            reached = [
                [await asyncio.to_thread(answers, address, number) for address in LOOPBACK]
                for number in (running.server.port, running.server.http_port)
            ]
            assert reached[0] == reached[1]
            wanted = {"127.0.0.1": [True, False], "::1": [False, True]}.get(host, [True, has_ipv6()])
            if host != "localhost":  # what that stands for is the machine's to say
                assert reached[0] == wanted
            told = [str(address.host) for address in running.server.http_at.addresses]
            assert told == [str(address.host) for address in running.server.grpc_at.addresses]

    def test_a_name_that_stands_for_two_has_one_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_for(monkeypatch, *LOOPBACK)
        with port("both.example") as both:
            both.reserve()
            assert [address.host for address in both.addresses] == (list(LOOPBACK) if has_ipv6() else ["127.0.0.1"])
            assert len({address.port for address in both.addresses}) == 1

    def test_an_address_that_this_machine_has_not_is_left_out_of_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_for(monkeypatch, "192.0.2.1", "127.0.0.1")
        with port("both.example") as both:
            both.reserve()
            assert [address.host for address in both.addresses] == ["127.0.0.1"]

    def test_one_that_is_not_of_this_machine_is_named(self) -> None:
        with (
            port("192.0.2.1") as other,
            pytest.raises(AddressInUseError, match=r"192\.0\.2\.1:0 cannot be bound: .*--host"),
        ):
            other.reserve()

    def test_a_name_that_stands_for_nothing_is_named(self) -> None:
        with port("nowhere.invalid") as other, pytest.raises(AddressInUseError, match=r"nowhere\.invalid:0 cannot be"):
            other.reserve()


class TestWords:
    @pytest.mark.parametrize(
        ("host", "written"),
        [("127.0.0.1", r"127\.0\.0\.1:\d+"), ("0.0.0.0", r"0\.0\.0\.0:\d+ \(all addresses, IPv4( and IPv6)?\)")],
    )
    def test_it_says_what_is_open(self, host: str, written: str) -> None:
        with port(host) as made:
            made.reserve()
            assert re.fullmatch(written, str(made))

    def test_a_name_says_what_it_stands_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_for(monkeypatch, "127.0.0.1")
        with port("both.example") as made:
            made.reserve()
            assert str(made) == f"both.example:{made.number} (127.0.0.1)"
            assert made.is_local

    def test_brackets_are_for_ipv6(self) -> None:
        assert Port("HTTP", Address("::1", 9090)).url == "http://[::1]:9090"
        assert Port("HTTP", Address("::1", 9090)).number == 9090


class TestReserving:
    def test_callers_are_refused_at_once(self) -> None:
        with port("127.0.0.1") as made:
            made.reserve()
            assert not answers("127.0.0.1", made.number)

    def test_nobody_else_can_take_it(self) -> None:
        with port("127.0.0.1") as made:
            made.reserve()
            with port("127.0.0.1", made.number) as second, pytest.raises(AddressInUseError, match="is taken"):
                second.reserve()
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", made.number))

    def test_connections_of_a_former_process_do_not_keep_it_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as former:
            number = former.getsockname()[1]
            with socket.create_connection(("127.0.0.1", number)) as caller:
                former.accept()[0].close()  # the end that closes first lingers
                assert caller.recv(1) == b""
        with port("127.0.0.1", number) as made:
            made.listen()
            assert answers("127.0.0.1", number)

    async def test_callers_of_both_ports_are_refused_while_connectors_start_and_nobody_can_take_them(self) -> None:
        gate = Gate()
        connector = Jobs(start=gate.block)
        registry = ConnectorRegistry()
        registry.register(connector)
        server = ConnectorServer(registry, Settings(port=0, http_port=0))
        starting = asyncio.create_task(server.start())
        await gate.reached()
        for number in (server.port, server.http_port):
            assert not answers("127.0.0.1", number)
            with port("127.0.0.1", number) as second, pytest.raises(AddressInUseError):
                second.reserve()
        gate.open()
        await starting
        assert all(answers("127.0.0.1", number) for number in (server.port, server.http_port))
        await server.stop()

    async def test_a_server_takes_over_without_a_moment_in_which_it_is_free(self, transport: str) -> None:
        """Somebody who tries to listen on it all the time never can."""
        with port("127.0.0.1") as made:
            made.reserve()
            server = await open_server(transport, grpc_options(Settings()))
            made.give_to(server)
            await server.start()
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", made.number))
            assert answers("127.0.0.1", made.number)
            await server.stop(0)
            assert not answers("127.0.0.1", made.number)

    async def test_one_that_a_server_cannot_open_is_named(self) -> None:
        class Refusing:
            def add_insecure_port(self, address: str) -> int:
                raise RuntimeError(address)

        with port("127.0.0.1") as made:
            with pytest.raises(AddressInUseError, match=r"the gRPC port .* is taken by another process"):
                made.give_to(Refusing())
            socket.create_server(("127.0.0.1", made.number)).close()


def stand_for(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have the resolver know a name."""
    ours = socket.getaddrinfo

    def resolve(name: object, number: int, **more: int) -> object:
        if name != b"both.example":
            return ours(name, number, **more)  # type: ignore[arg-type] # as it was called
        return [found for address in addresses for found in ours(address, number, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
