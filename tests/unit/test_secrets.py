"""Secrets are found where deployments mount them, and nowhere shown."""

import logging
import traceback
from contextvars import copy_context
from pathlib import Path

import pytest

from connector_core.errors import SecretNotFoundError
from connector_core.secrets import SecretSource, SecretStr, get_secret, use_source


@pytest.fixture
def source(tmp_path: Path) -> SecretSource:
    return SecretSource(env_prefix="_TEST_", folder=tmp_path)


def test_a_secret_is_in_the_environment_in_capitals(source: SecretSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TEST_WAREHOUSE_API_KEY", "s3cret")
    assert source.get("api_key", "Warehouse").get_secret_value() == "s3cret"


def test_or_in_a_file_in_lower_case(source: SecretSource, tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "api_key").write_text("s3cret")
    assert source.get("API_KEY", "Warehouse").get_secret_value() == "s3cret"


def test_the_environment_wins_over_the_file(
    source: SecretSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from the file")
    monkeypatch.setenv("_TEST_TOKEN", "from the environment")
    assert source.get("token").get_secret_value() == "from the environment"


@pytest.mark.parametrize("group", [None, ""])
def test_a_secret_needs_no_group(source: SecretSource, tmp_path: Path, group: str | None) -> None:
    (tmp_path / "token").write_text("s3cret")
    assert source.get("token", group).get_secret_value() == "s3cret"


@pytest.mark.parametrize("in_environment", [True, False])
def test_the_newline_that_echo_leaves_is_no_part_of_a_secret(
    source: SecretSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_environment: bool
) -> None:
    if in_environment:
        monkeypatch.setenv("_TEST_TOKEN", "s3cret\n")
    else:
        (tmp_path / "token").write_text("s3cret\n")
    assert source.get("token").get_secret_value() == "s3cret"


def test_a_secret_may_hold_any_text(source: SecretSource, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("päßwörd 鍵", encoding="utf-8")
    assert source.get("token").get_secret_value() == "päßwörd 鍵"


def test_a_missing_secret_is_an_error_that_names_both_places(source: SecretSource, tmp_path: Path) -> None:
    with pytest.raises(SecretNotFoundError) as caught:
        source.get("Api_Key", "Warehouse")
    message = str(caught.value)
    assert "'Api_Key' of group 'Warehouse'" in message
    assert "_TEST_WAREHOUSE_API_KEY" in message
    assert str(tmp_path / "warehouse" / "api_key") in message
    assert "No such file" in message


def test_a_missing_secret_may_appear_while_tasks_wait(source: SecretSource) -> None:
    with pytest.raises(SecretNotFoundError) as caught:
        source.get("token")
    assert caught.value.retryable


def test_a_folder_in_the_secrets_place_is_an_error_that_says_so(source: SecretSource, tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(SecretNotFoundError, match="directory"):
        source.get("token")


def test_a_file_that_is_no_text_is_an_error_that_does_not_show_it(source: SecretSource, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"s3cret\xff")
    with pytest.raises(SecretNotFoundError, match="UTF-8") as caught:
        source.get("token")
    assert caught.value.__context__ is None
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("", "group"),
        ("../token", None),
        ("token", "../up"),
        ("..", None),
        (".", "group"),
        ("token", ".."),
        ("a\0b", None),
    ],
)
def test_names_cannot_lead_out_of_the_folder(source: SecretSource, key: str, group: str | None) -> None:
    with pytest.raises(ValueError, match="plain names"):
        source.get(key, group)


def test_a_secret_is_hidden_from_repr_and_logs(
    source: SecretSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("_TEST_TOKEN", "s3cret")
    secret = source.get("token")
    logging.getLogger("a.plugin").warning("connecting with %s, %r and %s", secret, secret, {"token": secret})
    assert "s3cret" not in f"{secret} {secret!r} {caplog.text}"


def test_outside_of_a_host_the_usual_places_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FSEC_WAREHOUSE_TOKEN", "s3cret")
    assert get_secret("token", "warehouse").get_secret_value() == "s3cret"
    with pytest.raises(SecretNotFoundError, match="/etc/secrets/no-such-group/no-such-key"):
        get_secret("no-such-key", group="no-such-group")


def test_a_host_says_where_its_connectors_look(source: SecretSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TEST_TOKEN", "the host's")
    monkeypatch.setenv("_FSEC_TOKEN", "another")
    context = copy_context()
    context.run(use_source, source)
    assert context.run(get_secret, "token").get_secret_value() == "the host's"
    assert get_secret("token").get_secret_value() == "another"


def test_secrets_that_callers_bring_are_known_to_the_log_the_latest_of_very_many(source: SecretSource) -> None:
    source.note_brought(SecretStr(f"secret {number}") for number in range(1000))
    source.note_brought([SecretStr("secret 0"), SecretStr("secret 1000")])
    assert len(source.handed_out) == 1000
    assert {"secret 0", "secret 1000"} <= source.handed_out
    assert "secret 1" not in source.handed_out
