"""Tasks are served over HTTP only with tokens that deserve the name."""

from pathlib import Path

import pytest

from connector_core.errors import SettingsError
from connector_core.http.gateway.guard import names_of
from connector_core.settings import Settings
from connector_core.tables import read

GOOD = "0123456789abcdef"


def tokens(tmp_path: Path, text: str) -> tuple[bytes, ...]:
    file = tmp_path / "tokens"
    file.write_text(text)
    return Settings(gateway="tasks", gateway_token_file=file).gateway_tokens()


def test_each_line_is_a_token(tmp_path: Path) -> None:
    assert tokens(tmp_path, f"{GOOD}\n\n  {GOOD}-._~+/=  \r\n") == (GOOD.encode(), f"{GOOD}-._~+/=".encode())


def test_without_tasks_no_file_is_read(tmp_path: Path) -> None:
    assert Settings(gateway_token_file=tmp_path / "nowhere").gateway_tokens() == ()


def test_tasks_need_a_file() -> None:
    with pytest.raises(SettingsError, match="by gateway_token_file"):
        Settings(gateway="tasks").gateway_tokens()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gateway_token_file .*nowhere cannot be read"):
        Settings(gateway="tasks", gateway_token_file=tmp_path / "nowhere").gateway_tokens()


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_a_token_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="holds no token"):
        tokens(tmp_path, text)


@pytest.mark.parametrize("bad", [GOOD[:-1], f"{GOOD} {GOOD}", f"{GOOD}\N{SNOWMAN}", f'"{GOOD}"', f"{GOOD}\x00"])
def test_a_bad_token_is_refused_and_not_shown(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SettingsError, match="shorter than 16 characters, or has others than") as refused:
        tokens(tmp_path, f"{GOOD}\n{bad}\n")
    assert GOOD[:-1] not in str(refused.value)


def test_the_address_that_is_listened_on_is_among_the_hosts() -> None:
    settings = read(Settings, {"host": "10.1.2.3", "gateway_hosts": "a.example, b.example"})
    assert names_of(settings) == {"10.1.2.3", "a.example", "b.example"}
