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
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.documents import ROOT, Reader, check_install, codes, is_install, is_own, run

pytestmark = pytest.mark.long

OURS = re.compile(r"_*ebmcore|_editable_impl_|__editable__|my_sampler")
OFFLINE = "--quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check"
FIND = "import importlib_metadata as m; print([e.name for e in m.entry_points() if e.group.startswith('ebmcore.')])"


class Newcomer:
    """A fresh environment, and a checkout without anything that git ignores.

    Args:
        folder: Where all of it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", self.home], check=True)
        self.python = self.home / "bin" / "python"
        self.checkout = folder / "checkout"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "_build", "runs", "dist", "build")
        shutil.copytree(ROOT, self.checkout, ignore=ignored)
        downloaded = folder / "downloaded"
        downloaded.mkdir()
        site = Path(sysconfig.get_paths()["purelib"])
        for entry in site.iterdir():
            if (
                not OURS.match(entry.name)
                and entry.suffix != ".pth"
                and not entry.name.startswith(("pip", "setuptools"))
            ):
                (downloaded / entry.name).symlink_to(entry)
        (self._site() / "downloaded.pth").write_text(f"{downloaded}\n")
        self.work = folder / "work"
        self.work.mkdir()
        self.installed: list[str] = []

    def _site(self) -> Path:
        return next((self.home / "lib").glob("python*/site-packages"))

    @property
    def env(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}

    def prints(self, code: str) -> str:
        return run([str(self.python), "-c", code], self.work, self.env).stdout.strip()

    def install(self, command: str) -> str:
        """Run an install line of the page: in the checkout, or in the newcomer's folder for a package of their own."""
        own = is_own(command)
        check_install(command, self.work)
        words = command.replace(" --constraint constraints.txt", "").removeprefix("python -m pip install ")
        line = f"{self.python} -m pip install {OFFLINE} {words}"
        done = run(["bash", "-c", line], self.work if own else self.checkout, self.env)
        assert done.returncode == 0, done.stdout
        if not own:
            where = Path(self.prints("import ebmcore; print(ebmcore.__file__)"))
            assert where.is_relative_to(self._site())
        self.installed.append(command)
        return ""


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
