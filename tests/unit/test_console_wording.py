"""How the console says numbers, and what it shows of texts that others have written."""

import pytest

from connector_core.description import PluginIdentity
from connector_core.hostlog.redaction import Scrubber
from connector_core.http.console import wording

SCRUB = Scrubber(lambda: ["handed out"]).scrub


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, wording.NOTHING),
        (0, "0.0 ms"),
        (0.00002, "<0.1 ms"),
        (0.00012, "0.1 ms"),
        (0.0094, "9.4 ms"),
        (0.25, "250 ms"),
        (1.234, "1,234 ms"),
        (59.94, "59,940 ms"),
        (3600, "1 h 0 min"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert wording.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (1800, "30 min"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_long_times(seconds: float, shown: str) -> None:
    assert wording.span(seconds) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [
        (0, ("0", "/min")),
        (1 / 300, ("0.2", "/min")),
        (0.5, ("30", "/min")),
        (2.25, ("135", "/min")),
        (1234, ("74,040", "/min")),
    ],
)
def test_all_rates_have_one_unit(per_second: float, shown: tuple[str, str]) -> None:
    assert wording.rate(per_second) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, wording.NOTHING),
        (0, 5, "0 %"),
        (1, 100_000, "<0.1 %"),
        (1, 30, "3.3 %"),
        (1, 3, "33 %"),
        (99_999, 100_000, ">99.9 %"),
        (5, 5, "100 %"),
    ],
)
def test_a_small_share_is_not_nothing_and_nearly_all_is_not_all(part: int, whole: int, shown: str) -> None:
    assert wording.share(part, whole) == shown


@pytest.mark.parametrize(("number", "shown"), [(52.4e6, "52 MB"), (2.5e9, "2.50 GB")])
def test_sizes(number: float, shown: str) -> None:
    assert wording.size(number) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ValueError: token=abc123 is too old", "ValueError: token=[hidden] is too old"),
        ("bad config {'api_key': 'k-1 2', 'port': 1}", "bad config {'api_key': '[hidden]', 'port': 1}"),
        ('password: "s p", host: x', 'password: "[hidden]", host: x'),
        ("AWS_SECRET_ACCESS_KEY=xyz; region=eu", "AWS_SECRET_ACCESS_KEY=[hidden]; region=eu"),
        ("cannot reach postgres://joe:hunter2@db/x", "cannot reach postgres://joe:[hidden]@db/x"),
        ("the server refused handed out", "the server refused [hidden]"),
        ("401 for Bearer eyJhbGciOi.J9", "401 for Bearer [hidden]"),
        (
            "url [type=bad, input_value='hunter2', input_type=str]",
            "url [type=bad, input_value=[hidden], input_type=str]",
        ),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    assert wording.foreign(text, SCRUB) == [shown]


def test_a_reason_without_secrets_stays_as_it_is() -> None:
    reason = "ModuleNotFoundError: No module named 'acme.tokens'; did you mean 'acme_token'?"
    assert wording.foreign(reason, SCRUB) == [reason]


def test_of_a_long_reason_the_first_lines_are_shown() -> None:
    assert wording.foreign("one\n\ntwo\nthree\nfour\n", SCRUB) == ["one", "two", "three", "..."]
    (line,) = wording.foreign("x" * 1000, SCRUB)
    assert line == "x" * 300 + " ..."


def test_what_would_not_print_or_turns_the_text_round_is_left_out() -> None:
    assert wording.foreign("a\x1b[31mb\u202ec\td", SCRUB) == ["a [31mb c d"]


def test_no_reason_is_said_to_be_none() -> None:
    assert wording.first_line(" \n ", SCRUB) == "no reason given"


@pytest.mark.parametrize(
    ("plugin", "command"),
    [
        (PluginIdentity("acme", "connector-plugin-acme", "1"), "connector-host doctor acme"),
        (PluginIdentity("my.module"), "connector-host doctor my.module --modules my.module"),
        (PluginIdentity("a; rm -rf ~", "x", "1"), "connector-host doctor 'a; rm -rf ~'"),
    ],
)
def test_the_command_for_the_traceback_can_be_pasted(plugin: PluginIdentity, command: str) -> None:
    assert wording.doctor_command(plugin) == command


def test_a_long_name_is_cut_in_the_middle_since_its_end_tells_it_from_others() -> None:
    prefix = "s3://bucket/metadata/propeller/project-domain-execution/n0/data/0"
    head, tail = wording.ends(prefix)
    assert head + tail == prefix
    assert tail.endswith("n0/data/0")
    assert wording.ends("short") == ("short", "")
