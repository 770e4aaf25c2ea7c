"""The runner of the documentation notices when a page does not hold."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.markdown import Reader, blocks


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    folder = tmp_path / "work"
    folder.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return Reader(folder, {"PATH": path}, {"Sunday": "Monday"})


def page(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "page.md"
    file.write_text(text)
    return file


def test_files_are_written_and_commands_see_them(reader: Reader, tmp_path: Path) -> None:
    reader.follow(
        page(
            tmp_path,
            '```python title="days/hello.py"\nprint("It is Sunday,", 1 / 3)\n```\n'
            "```shell\npython days/hello.py\n```\n"
            "```output\nIt is Sunday, 0.33...\n```\n",
        )
    )


def test_a_port_that_has_the_digits_of_another_one_is_left_whole(tmp_path: Path) -> None:
    ports = {"9090": "43171", "4317": "5000"}
    reader = Reader(tmp_path, {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, ports)
    reader.follow(page(tmp_path, '```python\nprint("at :9090/, :4317")\n```\n```output\nat :9090/, :4317\n```\n'))
    reader.follow(page(tmp_path, '```python\nprint("at :%d/" % (43170 + 1))\n```\n```output\nat :9090/\n```\n'))


def test_scripts_run_and_are_compared(reader: Reader, tmp_path: Path) -> None:
    reader.follow(page(tmp_path, "```python\nprint(6 * 7)\n```\nThat is\n```output\n42\n```\n"))


def test_a_block_in_a_list_is_a_block(tmp_path: Path) -> None:
    (block,) = blocks(page(tmp_path, "- a point\n\n    ```shell\n    true\n    ```\n"))
    assert (block.language, block.text) == ("shell", "true\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```shell\necho one\n```\n```output\ntwo\n```\n", "(?s)line 4 shows:.*two.*but this was printed:.*one"),
        ("```shell\necho one; echo two\n```\n```output\none\n```\n", "line 4 shows"),
        ("\n```shell\nfalse\ntrue\n```\n", "line 2 ended with 1"),
        ("```python\nraise SystemExit(3)\n```\n", "ended with 3"),
        ("```output\none\n```\n", "no command before"),
        ('```shell title="not run: needs a cluster"\nfalse\n```\n```output\none\n```\n', "is not run"),
        ("```toml\na =\n```\n", "Invalid value"),
        ('```python title="connector_core/hookspecs.py"\nimport no_such_module\n```\n', "does not have this"),
        ("```shell\ntrue\n", "is not closed"),
        ('```shell title="not run:"\nfalse\n```\n', "say why"),
        (
            '```shell title="keeps running"\necho one\n```\n```output\ntwo\n```\n',
            "(?s)did not print what is shown.*one",
        ),
        ('```shell title="keeps running"\necho one; sleep 60\n```\n```output\none\n```\n', "ended with -2 on Ctrl-C"),
    ],
)
def test_a_page_that_does_not_hold_fails(reader: Reader, tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=complaint):
        reader.follow(page(tmp_path, text))


def test_what_is_not_run_says_so_and_is_left_alone(reader: Reader, tmp_path: Path) -> None:
    text = '```shell title="not run: needs a cluster"\nfalse\n```\n```yaml\na: 1\n```\n'
    reader.follow(page(tmp_path, text))
    assert [block.is_shown_only for block in blocks(tmp_path / "page.md")] == [True, False]


def test_a_path_in_the_repository_is_an_excerpt(reader: Reader, tmp_path: Path) -> None:
    text = '```python title="connector_core/hookspecs.py"\nPROJECT = "connector_core"\n```\n'
    reader.follow(page(tmp_path, text))
    assert not (tmp_path / "work" / "connector_core").exists()


def test_what_keeps_running_ends_with_the_page(reader: Reader, tmp_path: Path) -> None:
    server = "import signal, sys; signal.signal(2, lambda *_: sys.exit(0)); print('ready'); signal.pause()"
    text = f'```shell title="keeps running"\npython -c "{server}"\n```\n```output\nready\n```\n```shell\ntrue\n```\n'
    reader.follow(page(tmp_path, text))
