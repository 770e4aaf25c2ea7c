"""The program itself: what it says of its commands, and of one that it does not have."""

import pytest

from connector_core.cli.app import COMMANDS, run


def test_help_says_in_a_whole_sentence_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = shown.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line[2] != " "] == list(COMMANDS)
    assert "..." not in listed
    assert listed.count(".\n") == len(COMMANDS)


@pytest.mark.parametrize(("given", "hint"), [("srve", " Did you mean 'serve'?"), ("zzz", "")])
def test_a_command_that_there_is_not_is_a_usage_error(
    given: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([given]) == 2
    assert f"No such command '{given}'.{hint}\n" in capsys.readouterr().err
