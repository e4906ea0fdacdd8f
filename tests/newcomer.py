"""A fresh environment with nothing of ours in it, for what a new user does first.

It is made by `python -m venv`. One thing is not as a user has it: third-party packages (torch alone is 200 MB) are not
downloaded. A folder of links to those of the environment that runs the tests stands for the download, and a .pth file
adds it. Nothing of this checkout is among them, no plugin and no editable install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.documents import ROOT, check_install, is_own, run

OURS = re.compile(r"ebmcore|_editable_impl_|__editable__|my_sampler")
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
        (self.site() / "downloaded.pth").write_text(f"{downloaded}\n")
        self.work = folder / "work"
        self.work.mkdir()
        self.installed: list[str] = []

    def site(self) -> Path:
        return next((self.home / "lib").glob("python*/site-packages"))

    @property
    def env(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}

    def pip(self, *words: str | Path) -> None:
        """Run `pip install` with these words, without an index."""
        line = [str(self.python), "-m", "pip", "install", *OFFLINE.split(), *map(str, words)]
        done = run(line, self.work, self.env)
        assert done.returncode == 0, done.stdout

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
            assert where.is_relative_to(self.site())
        self.installed.append(command)
        return ""
