"""A new user's transcript of each journey: an environment of its own, and nothing but the page.

The environment is made by `python -m venv`; the page's own `pip install` lines run in it, its commands and its
Python run with it, in their order, and what they print is held against what the page shows.

One thing is not as a user has it: third-party packages (torch alone is 200 MB) are not downloaded. A folder of
links to those of the environment that runs the tests stands for the download, and a .pth file adds it. It is a fair
stand-in for these reasons, of which the tests check the first three:

- The folder has no link to ebmcore, to a plugin or to an editable install; before the page's install line
  `import ebmcore` fails and no distribution has an entry point of ours.
- Everything of this checkout is installed anew as a user's pip does it: wheels are built, and copied. So a file that
  the wheel lacks, or an entry point that is not in the metadata, fails here.
- What is imported afterwards lies in the new environment, not in the checkout.
- `--no-deps --no-build-isolation --no-index` are added to the page's install line, since what it would fetch is there.
  So that an index can meet the requirements is not shown here; that every distribution names them is, by `pip check`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.documents import Reader, codes, is_install, run
from tests.newcomer import FIND, Newcomer

pytestmark = pytest.mark.long

ALONE = "first-plugin"
"""The page that installs the host and no plugin of ours."""


@pytest.mark.parametrize("journey", ["sample", "run-a-file", ALONE, "write-a-plugin"])
def test_a_newcomer_gets_to_the_end_of_the_page(journey, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    newcomer = Newcomer(tmp_path)
    assert "No module named 'ebmcore'" in newcomer.prints("import ebmcore")
    assert newcomer.prints(FIND) == "[]"
    page = newcomer.checkout / "docs" / f"{journey}.md"
    Reader(newcomer.work, newcomer.python, newcomer.install).read(page)
    wanted = [command for code in codes(page) for command in code.commands if is_install(command)]
    assert newcomer.installed == wanted
    assert wanted[0].startswith("python -m pip install --constraint constraints.txt .")
    ours = newcomer.prints(
        "import importlib, importlib_metadata as m\n"
        "for e in m.entry_points():\n"
        "    if e.group.startswith('ebmcore.'): print(importlib.import_module(e.value.partition(':')[0]).__file__)"
    )
    plugins = [file for file in ours.splitlines() if f"{os.sep}ebmcore{os.sep}" not in file]
    assert len(plugins) == 2 if journey == ALONE else len(plugins) > 15
    for file in map(Path, ours.splitlines()):
        assert file.is_relative_to(newcomer.home) or file.is_relative_to(newcomer.work), file
    checked = run([str(newcomer.python), "-m", "pip", "check"], newcomer.work, newcomer.env).stdout
    assert "ebmcore" not in checked, checked
