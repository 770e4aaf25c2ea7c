"""Pages of the documentation, followed as a reader would: files are written, commands run, their output compared.

What a fenced block is, its first line says:

- ```` ```LANGUAGE title="FILE" ```` is a file, written into the reader's folder. A path that exists in the repository
  makes it an excerpt instead, which has to stand in that file.
- ```` ```shell ```` holds commands, which have to succeed. With `title="keeps running"` the command goes on until the
  next such block, or the page's end, where Ctrl-C has to end it with 0.
- ```` ```python ```` is a script, run in the reader's folder.
- ```` ```output ```` is what the block before it prints; `...` stands for anything. Of a command that keeps running it
  is what has to be seen before the reader goes on.
- ```` ```toml ```` has to be TOML and ```` ```json ```` JSON; other languages claim nothing.
- `title="not run: REASON"` tells reader and runner alike that a block is not run, and why.
"""

import json
import os
import re
import signal
import subprocess
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.environments import ROOT

_FENCE = re.compile(r"^( *)```(\w*)([^\n`]*)\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^ *```", re.MULTILINE)
_TITLE = re.compile(r'title="([^"]*)"')
_NOT_RUN = "not run:"
_KEEPS_RUNNING = "keeps running"
_PATIENCE = 110
"""Seconds that one block may take; far more than any needs."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    where: str
    language: str
    title: str
    text: str

    @property
    def is_shown_only(self) -> bool:
        """Whether it says that it is not run."""
        return self.title.startswith(_NOT_RUN)

    @property
    def keeps_running(self) -> bool:
        """Whether its command goes on while the reader reads on."""
        return self.title == _KEEPS_RUNNING

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or an excerpt of one."""
        return bool(self.title) and not self.is_shown_only and not self.keeps_running

    @property
    def is_run(self) -> bool:
        """Whether it is a script or a command."""
        return self.language in {"python", "shell"} and not self.is_shown_only and not self.is_file


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order.

    Raises:
        AssertionError: a block is not closed, or says that it is not run but not why.
    """
    text = page.read_text()
    name = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
    found = []
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match[3])
        where = f"{name}, line {text.count(chr(10), 0, match.start()) + 1}"
        block = Block(
            where, match[2], title[1] if title else "", re.sub(f"^{match[1]}", "", match[4], flags=re.MULTILINE)
        )
        assert block.title.strip() != _NOT_RUN, f"{where}: say why it is not run"
        found.append(block)
    marks = len(_MARK.findall(text))
    assert marks == 2 * len(found), f"{name}: {marks} fences are not {len(found)} blocks; one is not closed or indented"
    return found


class Reader:
    """Follows pages in a folder.

    Args:
        folder: where files are written and commands run.
        environment: the variables that commands see.
        replace: what has to differ here from the page, such as a port that may be taken on this machine.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], replace: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environment = {**environment, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "120"}
        self._replace = dict(replace or {})
        self._before: Block | None = None
        self._printed = ""
        self._running: _Running | None = None

    def follow(self, page: Path) -> None:
        """Do what a page says, from top to bottom.

        Raises:
            AssertionError: naming the block that does not hold.
        """
        try:
            for block in blocks(page):
                self._do(block)
                self._before = block
            self._end_what_runs()
        finally:
            if self._running is not None:
                self._running.kill()

    def _do(self, block: Block) -> None:
        if block.is_shown_only:
            return
        if block.is_file:
            self._keep_file(block)
        elif block.is_run and block.keeps_running:
            self._end_what_runs()
            self._running = _Running(block, self._here(block.text), self.folder, self._environment)
        elif block.is_run:
            self._run(block)
        elif block.language == "output":
            self._compare(block)
        elif (check := {"toml": tomllib.loads, "json": json.loads}.get(block.language)) is not None:
            check(block.text)

    def _keep_file(self, block: Block) -> None:
        in_repository = ROOT / block.title
        if "/" in block.title and in_repository.exists():
            assert block.text.rstrip() in in_repository.read_text(), f"{block.where}: {block.title} does not have this"
            return
        file = self.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._here(block.text))

    def _run(self, block: Block) -> None:
        is_shell = block.language == "shell"
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(block.text)] if is_shell else ["python", "-"],
            input=None if is_shell else self._here(block.text),
            stdin=subprocess.DEVNULL if is_shell else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self._environment,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert result.returncode == 0, f"{block.where} ended with {result.returncode}:\n{result.stdout}"
        self._printed = result.stdout

    def _compare(self, block: Block) -> None:
        assert self._before is not None, f"{block.where}: there is no command before this output"
        assert self._before.is_run, f"{block.where}: what stands before this output is not run"
        wanted = pattern(self._here(block.text))
        if self._before.keeps_running:
            assert self._running is not None
            self._running.wait_for(wanted)
        else:
            printed = self._printed.strip()
            assert wanted.fullmatch(printed), f"{block.where} shows:\n{block.text}\nbut this was printed:\n{printed}"

    def _end_what_runs(self) -> None:
        if self._running is not None:
            self._running.interrupt()
            self._running = None

    def _here(self, text: str) -> str:
        if not self._replace:
            return text
        # All at once, and no part of another number: a port taken here may have another's digits.
        there = "|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in self._replace)
        return re.sub(there, lambda found: self._replace[found[0]], text)


def pattern(shown: str) -> re.Pattern[str]:
    """Return what matches the output that a page shows, with `...` for anything."""
    return re.compile(re.escape(shown.strip()).replace(r"\.\.\.", ".*?"), re.DOTALL)


class _Running:
    """A command that keeps running."""

    def __init__(self, block: Block, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._where = block.where
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._printed = ""
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, wanted: re.Pattern[str]) -> None:
        """Return when the output has it."""
        with self._news:
            self._news.wait_for(lambda: self._ended or wanted.search(self._printed), _PATIENCE)
            assert wanted.search(self._printed), f"{self._where} did not print what is shown, but:\n{self._printed}"

    def interrupt(self) -> None:
        """Send Ctrl-C and wait for the end."""
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        assert code == 0, f"{self._where} ended with {code} on Ctrl-C:\n{self._printed}"

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._printed += line
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
