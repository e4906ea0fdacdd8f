"""Every block of code in the README does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, codes

README = ROOT / "README.md"
EBMCORE = Path(sys.executable).parent / "ebmcore"

# Runs the blocks of the files it is given in one namespace, as a notebook does its cells.
NOTEBOOK = "import sys; [exec(compile(open(f).read(), f, 'exec'), globals()) for f in sys.argv[1:]]"


CODES = codes(README)


def commands():
    return [line for code in CODES if code.language == "sh" for line in code.text.splitlines()]


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the run files of the README lie and its `ebmcore` commands have run, in order."""
    folder = tmp_path_factory.mktemp("readme")
    for code in CODES:
        if code.language == "toml":
            name = re.match(r"# ([\w-]+\.toml)\n", code.text)
            assert name, f"README.md:{code.line}: a TOML block begins with the name of its file"
            (folder / name[1]).write_text(code.text)
    for command in commands():
        if command.startswith("ebmcore "):
            run([str(EBMCORE), *shlex.split(command, comments=True)[1:]], folder)
    return folder


def test_the_first_block_needs_no_file_and_no_plugin_knowledge():
    first = next(code for code in CODES if code.language == "python")
    assert first.text == (
        "import ebmcore as ebm\n"
        "result = ebm.sample(lambda x: ((x**2 - 1)**2).sum(-1), "
        'ebm.use("ula", step_size=0.01), chains=10_000, shape=(2,), steps=1000)\n'
    )


def test_every_block_has_a_language_that_is_tested():
    assert {code.language for code in CODES} == {"python", "toml", "sh"}


def test_the_python_blocks_run_in_order(folder):
    files = []
    for code in CODES:
        if code.language == "python":
            # Empty lines before it, so that a traceback gives the line of the README.
            files.append(folder / f"README_{code.line}.py")
            files[-1].write_text("\n" * (code.line - 1) + code.text)
    done = run([sys.executable, "-W", "error", "-c", NOTEBOOK, *map(str, files)], folder)
    assert "10000 chains x 1000 steps" in done.stdout


def test_every_run_file_is_run_by_a_command(folder):
    for file in folder.glob("*.toml"):
        assert any(command.startswith(f"ebmcore run {file.name}") for command in commands())


def test_every_command_is_known_and_what_it_names_exists():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands():
        first, *words = shlex.split(command, comments=True)
        if first == "make":
            assert set(words) <= set(targets), command
        elif [first, *words[:3]] == ["python", "-m", "pip", "install"]:
            paths = [word for word in words[3:] if not word.startswith("--")]
            assert all((ROOT / path).exists() for path in paths), command
            assert all((ROOT / path / "pyproject.toml").is_file() for path in paths if path.startswith((".", "/")))
        else:
            assert first == "ebmcore", command  # which the fixture has run


def test_links_and_pictures_are_in_the_repository():
    links = re.findall(r"\]\(([^)]+)\)", README.read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
