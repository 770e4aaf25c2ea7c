"""The host's log: what is kept out of it, who may be slow, and what is said of that."""

import io
import json
import logging
import logging.config
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from connector_core.hostlog import HostLog
from connector_core.hostlog.entries import Entry
from connector_core.hostlog.redaction import HIDDEN, Scrubber, is_secret, without_secrets
from connector_core.hostlog.stream import wants_colours
from connector_core.hostlog.writer import Writer
from tests.fakes import eventually


def scrub(text: str, *known: str) -> str:
    scrubbed: str = Scrubber(lambda: known).scrub(text)
    return scrubbed


class TestSecretsByTheirNames:
    @pytest.mark.parametrize(
        "name",
        [
            "token", "accessToken", "ACCESS_TOKEN", "password", "db_password", "client-secret", "api_key", "apiKey", "key",
            "Authorization", "Set-Cookie", "credentials", "resource_meta", "the.resource_meta",
        ],
    )  # fmt: skip
    def test_are_told(self, name: str) -> None:
        assert is_secret(name, "abc")

    @pytest.mark.parametrize(
        "name", ["monkey", "tokenizer", "keyboard", "secretary", "job_id", "idempotency_key", "rows"]
    )
    def test_are_not_seen_where_there_are_none(self, name: str) -> None:
        assert not is_secret(name, "abc")

    def test_numbers_of_tokens_and_keys_are_none(self) -> None:
        assert not is_secret("tokens", 4096)
        assert not is_secret("max_token", None)
        assert is_secret("password", 1234)

    def test_are_hidden_however_deep_they_lie(self) -> None:
        deep: Any = {"token": "abc"}
        for _ in range(5):
            deep = [{"more": (deep,)}]
        assert "abc" not in repr(without_secrets(deep))

    def test_endless_structures_end(self) -> None:
        endless: dict[str, Any] = {}
        endless["more"] = endless
        assert "..." in repr(without_secrets(endless))

    def test_an_object_that_cannot_be_printed_costs_its_place_alone(self) -> None:
        class Bad:
            def __repr__(self) -> str:
                raise ValueError("no")

        assert without_secrets({"bad": Bad(), "rows": 1}) == {
            "bad": "(a Bad that cannot be printed: ValueError)",
            "rows": 1,
        }


class TestSecretsInTexts:
    @pytest.mark.parametrize(
        ("text", "scrubbed"),
        [
            ("token=abc", f"token={HIDDEN}"),
            ("?access_token=abc&limit=5", f"?access_token={HIDDEN}&limit=5"),
            ("{'password': 'a b c', 'n': 1}", f"{{'password': '{HIDDEN}', 'n': 1}}"),
            ('{"api_key": "abc", "n": 1}', f'{{"api_key": "{HIDDEN}", "n": 1}}'),
            ("token='abc and no end", f"token={HIDDEN}"),
            ("Authorization: Bearer abc.def", f"Authorization: {HIDDEN}"),
            ("postgres://me:abc@db:5432/x", f"postgres://me:{HIDDEN}@db:5432/x"),
            ("resource_meta=b'abc'", f"resource_meta='{HIDDEN}'"),
        ],
    )
    def test_are_hidden_behind_their_names(self, text: str, scrubbed: str) -> None:
        assert scrub(text) == scrubbed

    @pytest.mark.parametrize(
        "text",
        ["the token has expired", "KeyError: 'token'", "key=job-7", "see http://host:80/path", "3 keys: a, b", "x@y"],
    )
    def test_words_alone_are_no_secrets(self, text: str) -> None:
        assert scrub(text) == text

    def test_of_any_length_and_shape_are_looked_for_in_no_time(self) -> None:
        """With an expression that goes back and forth, the first of these takes minutes, in which no other thread runs."""
        for text in (
            "a-" * 100_000,
            "token" * 40_000,
            "://a:" * 40_000,
            "token='" * 30_000,
            "token='" + "\\" * 200_000,
        ):
            assert "abc" not in scrub(text + " token=abc")

    def test_that_are_known_are_hidden_wherever_they_stand(self) -> None:
        assert scrub("a hunter22 hunter222", "hunter22", "hunter222") == f"a {HIDDEN} {HIDDEN}"

    def test_known_ones_that_are_mere_words_would_give_themselves_away(self) -> None:
        assert scrub("a job", "job", "") == "a job"


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_written_where_they_are_wanted(
    environment: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    assert wants_colours(environment, is_terminal) is expected


def entry(event: str) -> Entry:
    return Entry(0.0, logging.INFO, "x", event, None, {}, None, "")


def make_writer(stream: Any, room: int = 10_000) -> Writer:
    return Writer(stream, lambda entry: entry.event, lambda number: entry(f"{number} dropped"), room)


class TestAReaderThatDoesNotRead:
    """A pipe takes 64 KiB, then whoever writes to it waits."""

    @pytest.fixture
    def pipe(self) -> Any:
        reads, writes = os.pipe()
        with os.fdopen(reads) as reader, os.fdopen(writes, "w") as writer:
            yield reader, writer

    def test_keeps_nobody_waiting_and_is_told_what_it_missed_where_it_missed_it(self, pipe: Any) -> None:
        reader, stream = pipe
        writer = make_writer(stream, room=1_000_000)
        for number in range(1000):
            writer.put(entry(f"{number} " + "x" * 2000))
        assert not writer.flush(0)
        missed = writer.dropped
        assert 0 < missed < 1000
        read: list[str] = []
        thread = threading.Thread(target=lambda: read.extend(reader), daemon=True)
        thread.start()
        assert writer.flush(30)
        writer.put(entry("the last"))
        writer.close(30)
        stream.close()
        thread.join(30)
        numbers = [int(line.split()[0]) for line in read[: 1000 - missed]]
        assert numbers == sorted(numbers)
        assert [line.strip() for line in read[1000 - missed :]] == [f"{missed} dropped", "the last"]

    def test_that_has_gone_is_no_trouble(self, pipe: Any) -> None:
        reader, stream = pipe
        reader.close()
        writer = make_writer(stream)
        writer.put(entry("to nobody"))
        assert writer.flush(30)


def test_lines_after_the_end_are_written_by_whoever_logs_them() -> None:
    stream = io.StringIO()
    writer = make_writer(stream)
    writer.put(entry("before"))
    writer.close(30)
    writer.put(entry("after"))
    assert stream.getvalue() == "before\nafter\n"


class TestLogging:
    def lines(self, stream: io.StringIO) -> list[dict[str, Any]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    def test_is_left_as_it_was_found(self) -> None:
        root, call_handlers = logging.getLogger(), logging.Logger.callHandlers
        before = (root.level, list(root.handlers), threading.excepthook)
        with HostLog({"root": "debug", "a.library": "error"}, stream=io.StringIO()):
            assert root.level == logging.DEBUG
            assert logging.getLogger("a.library").level == logging.ERROR
        assert (root.level, list(root.handlers), threading.excepthook) == before
        assert logging.getLogger("a.library").level == logging.NOTSET
        assert logging.Logger.callHandlers is call_handlers

    def test_other_handlers_still_get_what_they_ask_for(self, caplog: pytest.LogCaptureFixture) -> None:
        stream = io.StringIO()
        with HostLog({}, stream=stream):
            logging.getLogger("a.library").warning("for both")
        assert [line["event"] for line in self.lines(stream)] == ["for both"]
        assert caplog.messages == ["for both"]

    def test_a_plugin_that_disables_loggers_is_overruled(self) -> None:
        stream = io.StringIO()
        other = logging.getLogger("another.plugin")
        with HostLog({}, stream=stream) as log:
            other.disabled = True
            log.hold_to_levels()
            other.info("heard")
        assert [line["event"] for line in self.lines(stream)] == ["heard"]

    def test_one_that_disables_all_logging_while_it_is_called_is_told_once_and_silences_nobody(self) -> None:
        stream = io.StringIO()
        other = logging.getLogger("another.plugin")
        with HostLog({}, stream=stream):
            other.info("before")
            for _ in range(2):
                logging.disable(logging.CRITICAL)
                other.info("heard")
        told, *heard = [line["event"] for line in self.lines(stream)][1:]
        assert told.startswith("logging.disable() is ignored")
        assert heard == ["heard", "heard"]
        logging.disable(logging.INFO)
        try:
            assert not other.isEnabledFor(logging.INFO)
        finally:
            logging.disable(logging.NOTSET)

    def test_one_that_raises_the_roots_level_does_not_silence_the_host(self) -> None:
        stream = io.StringIO()
        with HostLog({}, stream=stream):
            logging.getLogger().setLevel(logging.CRITICAL)
            logging.getLogger("connector_core.calls").info("heard")
            logging.getLogger("another.plugin").info("not heard")
        assert [line["event"] for line in self.lines(stream)] == ["heard"]

    def test_one_that_closes_the_stream_does_not_silence_the_host(self) -> None:
        reads, writes = os.pipe()
        with os.fdopen(reads, "rb") as reader:
            stream = os.fdopen(writes, "w")
            with HostLog({}, stream=stream):
                stream.close()
                logging.getLogger("x").info("heard")
            assert [json.loads(line)["event"] for line in reader] == ["heard"]

    @pytest.mark.parametrize(
        "configure",
        [
            lambda: logging.config.dictConfig({"version": 1}),
            lambda: logging.basicConfig(force=True, level=logging.ERROR),
        ],
        ids=["dictConfig", "basicConfig"],
    )
    async def test_one_that_configures_logging_while_it_is_called_is_overruled_soon(
        self, configure: Callable[[], None]
    ) -> None:
        stream = io.StringIO()
        other = logging.getLogger("another.plugin")
        with HostLog({}, stream=stream):
            configure()
            await eventually(lambda: other.isEnabledFor(logging.INFO))
            other.info("heard")
        assert [line["event"] for line in self.lines(stream)] == ["heard"]

    def test_long_texts_are_cut(self) -> None:
        stream = io.StringIO()
        with HostLog({}, stream=stream):
            logging.getLogger("x").info("a" * 1_000_000, extra={"answer": ["b" * 1_000_000]})
        (line,) = self.lines(stream)
        assert len(line["event"]) < 100_000
        assert len(line["answer"][0]) < 100_000

    def test_lines_carry_what_their_logger_is_named_after(self) -> None:
        stream = io.StringIO()
        with HostLog({}, stream=stream) as log:
            log.hold_to_levels({"acme_plugin": "acme"})
            logging.getLogger("acme_plugin.client").info("hello")
        assert self.lines(stream)[0]["plugin"] == "acme"

    def test_bytes_that_are_no_text_are_escaped(self) -> None:
        reads, writes = os.pipe()
        with os.fdopen(reads, "rb") as reader, os.fdopen(writes, "w") as stream:
            with HostLog({}, form="json", stream=stream):
                logging.getLogger("x").info("name \udce9 and %s", "é")
            assert json.loads(reader.readline())["event"] == "name \udce9 and é"

    def test_an_error_that_ends_the_process_when_it_is_printed_does_not(self) -> None:
        class FatalError(Exception):
            def __str__(self) -> str:
                raise SystemExit(3)

        stream = io.StringIO()
        with HostLog({}, stream=stream):
            logging.getLogger("x").error("failed", exc_info=FatalError())
        (line,) = self.lines(stream)
        assert "FatalError" in line["exception"]
