"""Runs the blocks of a Markdown page as a reader would: files are written, commands and Python run, in their order.

- A TOML or Python block that begins with `# NAME.toml` or `# NAME.py` is a file of that name.
- Another Python block is run, all of a page in one process, as a notebook does its cells.
- The lines of a `sh` block are commands, run by a shell.
- A `text` block is what the block before it prints: all of it, where `...` stands for anything, and
  white space does not count.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# A notebook's kernel: runs the files that it is told in one namespace, and says what they printed.
KERNEL = """
import contextlib, io, json, pathlib, sys, traceback
namespace = {"__name__": "__main__"}
reply = sys.stdout
for line in sys.stdin:
    printed, failed = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            name = json.loads(line)
            exec(compile(pathlib.Path(name).read_text(), name, "exec"), namespace)
        except BaseException:
            failed = traceback.format_exc()
    print(json.dumps([printed.getvalue(), failed]), file=reply, flush=True)
"""


class Code(NamedTuple):
    """A block of code."""

    language: str
    line: int
    text: str

    @property
    def file(self) -> str | None:
        """Name of the file that it is, if it is one."""
        named = re.match(r"# ([\w./-]+\.(?:toml|py))\n", self.text)
        return named[1] if named and self.language in {"toml", "python"} else None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block."""
        return self.text.splitlines() if self.language == "sh" else []


def codes(page: Path) -> list[Code]:
    """Return the blocks of a page."""
    text = page.read_text()
    return [
        Code(found[1], text.count("\n", 0, found.start()) + 2, found[2])
        for found in re.finditer(r"^```([\w{}-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if not found[1].startswith("{")
    ]


def is_install(command: str) -> bool:
    return command.startswith("python -m pip install ")


def is_own(command: str) -> bool:
    """Does this install a package that the page made?"""
    return is_install(command) and " -e ." in command


class Reader:
    """Runs pages in a folder with one Python; what it calls is first on PATH.

    Args:
        folder: Where files are written and commands run.
        python: The interpreter of a virtual environment.
        install: Runs an install command in place of the shell.
        env: Environment variables beside those of this process.
    """

    def __init__(
        self, folder: Path, python: Path, install: Callable[[str], str], env: dict[str, str] | None = None
    ) -> None:
        self.folder, self.python, self.install = folder, python, install
        path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
        # A terminal's width would wrap what is printed.
        self.env = {**os.environ, "PATH": path, "COLUMNS": "200", "PYTHONNOUSERSITE": "1", **(env or {})}
        self._kernel: subprocess.Popen[str] | None = None

    def read(self, page: Path) -> None:
        """Run the page's blocks; an AssertionError says which line fails, and how."""
        printed = ""
        try:
            for code in codes(page):
                where = f"{page.name}:{code.line}"
                if code.language == "text":
                    same = doctest.OutputChecker().check_output(
                        code.text, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                    )
                    assert same, f"{where} shows\n{code.text}\nand this was printed:\n{printed}"
                elif code.file is not None:
                    file = self.folder / code.file
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(code.text)
                elif code.language == "python":
                    printed = self._run_python(code, where)
                elif code.language == "sh":
                    printed = "".join(self._run_command(command, where) for command in code.commands)
                elif code.language == "toml":
                    tomllib.loads(code.text)  # a fragment
                else:
                    raise AssertionError(f"{where}: a block of '{code.language}' is not one that can be run")
        finally:
            self.close()

    def close(self) -> None:
        """End the Python process."""
        if self._kernel is not None:
            self._kernel.communicate(timeout=60)
            self._kernel = None

    def _run_command(self, command: str, where: str) -> str:
        if is_install(command):
            return self.install(command)
        done = run(["bash", "-c", command], self.folder, self.env)
        # A refusal that a page shows is part of what it says: the text block beside it holds its message.
        said = re.search(r"# exit code (\d+)", command)
        assert done.returncode == (int(said[1]) if said else 0), f"{where}: {command}\n{done.stdout}"
        return done.stdout

    def _run_python(self, code: Code, where: str) -> str:
        if self._kernel is None:
            self._kernel = subprocess.Popen(
                [self.python, "-W", "error", "-c", KERNEL],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        file = self.folder / f".block_{code.line}.py"
        # Empty lines before it, so that a traceback gives the line of the page.
        file.write_text("\n" * (code.line - 1) + code.text)
        assert self._kernel.stdin is not None
        assert self._kernel.stdout is not None
        print(json.dumps(str(file)), file=self._kernel.stdin, flush=True)
        printed, failed = json.loads(self._kernel.stdout.readline())
        assert failed is None, f"{where}\n{failed}"
        return str(printed)


def run(command: Sequence[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command; what it prints and its errors come together in `stdout`."""
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def check_install(command: str, folder: Path) -> None:
    """Assert that an install command names what is there: the checkout's packages, or one of the page."""
    words = command.split()[4:]
    assert words, command
    if "constraints.txt" in words:
        assert words[:2] == ["--constraint", "constraints.txt"], command
        paths = [path for word in words[2:] for path in ([ROOT] if word == "." else sorted(ROOT.glob(word)))]
        assert len(paths) >= len(words) - 2, command
    else:
        assert words[0] == "-e" or words == ["arviz", "xarray"], command
        paths = [folder / words[1]] if words[0] == "-e" else []
    assert all((path / "pyproject.toml").is_file() for path in paths), command
