"""Backends on loopback, and the pairs of servers that have them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from connector_core.connection import Connection
from connector_core.secrets import SecretStr
from tests.proofs.backends.openai_api import KEY, OpenAI
from tests.proofs.backends.snowflake import snowflake
from tests.proofs.backends.tunnel import in_pem, make_key
from tests.proofs.backends.web import listening
from tests.proofs.backends.webhooks import Webhooks
from tests.proofs.distributions import FAKESNOW, FLYTE, OF_CLOUDS, OF_OPENAI, SERVER
from tests.proofs.environments import bridged
from tests.proofs.peers import FLYTE_SERVER, Pair, pair
from tests.support.environments import Venv, make_venv
from tests.support.sharing import once


@pytest.fixture(scope="session")
def webhooks() -> Webhooks:
    return Webhooks()


@pytest.fixture(scope="session")
def webhooks_url(webhooks: Webhooks) -> Iterator[str]:
    with listening(webhooks.app) as url:
        yield url


@pytest.fixture(scope="session")
def openai_of_session() -> OpenAI:
    return OpenAI()


@pytest.fixture
def openai(openai_of_session: OpenAI) -> OpenAI:
    """The server that speaks OpenAI's API, with nothing on it."""
    openai_of_session.reset()
    return openai_of_session


@pytest.fixture(scope="session")
def both(shared: Path, tmp_path_factory: pytest.TempPathFactory, openai_of_session: OpenAI) -> Iterator[Pair]:
    """flytekit's server and ours, with what flytekit itself brings and its plugin for OpenAI."""
    groups = ("webhooks", "sensors", "openai")
    folder = bridged(shared, "flytekit", "flytekit", [*SERVER, *OF_OPENAI], "flytekit_tasks.py", *groups)
    logs = tmp_path_factory.mktemp("flytekit")
    with listening(openai_of_session.app) as url:
        environment = {"OPENAI_BASE_URL": f"{url}/v1", "_FSEC_FLYTE_OPENAI_API_KEY": KEY}
        with pair(folder, logs, environment) as servers:
            yield servers


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """moto's server; gives its URL."""
    from moto.server import ThreadedMotoServer  # takes seconds, and most tests do without

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def forget_aws(aws: str) -> Callable[[], None]:
    """Have AWS forget all that was made in it, by calling this."""

    def forget() -> None:
        with urlopen(Request(f"{aws}/moto-api/reset", method="POST")) as answer:
            assert answer.status == 200

    return forget


@pytest.fixture(scope="session")
def fakesnow(shared: Path) -> Venv:
    """The environment of Snowflake's fake."""
    return Venv(once(shared / "fakesnow", lambda place: make_venv(place / "venv", *FAKESNOW)) / "venv")


@pytest.fixture(scope="session")
def clouds(shared: Path, tmp_path_factory: pytest.TempPathFactory, aws: str, fakesnow: Venv) -> Iterator[Pair]:
    """flytekit's server and ours, with flytekit's plugins for AWS and Snowflake."""
    folder = bridged(shared, "clouds", "flytekit", [*SERVER, *OF_CLOUDS], "flytekit_tasks.py", "aws", "snowflake")
    logs = tmp_path_factory.mktemp("clouds")
    credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    with snowflake(fakesnow, logs) as environment:
        key = {"_FSEC_SNOWFLAKE_PRIVATE_KEY": in_pem(make_key()).decode()}
        environment.update(credentials, AWS_ENDPOINT_URL=aws, **key)
        with pair(folder, logs, environment) as servers:
            yield servers


@pytest.fixture(scope="session")
def sdk(shared: Path, tmp_path_factory: pytest.TempPathFactory, fakesnow: Venv) -> Iterator[Pair]:
    """The server of Flyte's SDK 2 and ours, with the SDK's plugin for Snowflake, called by an engine of the 2.x line."""
    folder = bridged(shared, "sdk", "flyte", FLYTE, "flyte_tasks.py")
    logs = tmp_path_factory.mktemp("sdk")
    connection = Connection(secrets={"snowflake_private_key": SecretStr(in_pem(make_key()).decode())})
    options = {"engine_version": (2, 0), "connection": connection}
    with (
        snowflake(fakesnow, logs) as environment,
        pair(folder, logs, environment, *FLYTE_SERVER, **options) as servers,
    ):
        yield servers
