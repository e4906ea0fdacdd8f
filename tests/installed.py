"""Sample distributions of `tests/third_party`, built and installed for real, in an environment of their own.

The environment sees all that the one of the tests sees, its editable installs too, and the samples beside them.
Wheels are built by the backend that each pyproject.toml names, all in one process, and pip installs them in one go:
some 5 seconds for all. Two are installed as editable; one is damaged afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.documents import ROOT

SAMPLES = ROOT / "tests" / "third_party"
EDITABLE = ("editable_flat", "editable_src")
UPGRADE = "upgraded_2"
"""Another version of a distribution that is installed: `Installed.upgrade` puts it in place."""

_BUILD = """
import os, sys
from hatchling import build
wheels, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    build.build_wheel(wheels)
"""
_PIP = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet", "--no-input")


class Installed:
    """A virtual environment with every sample distribution in it.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "venv"
        venv.create(self.home, with_pip=False)
        self.python = self.home / "bin" / "python"
        self.site = next((self.home / "lib").glob("python*/site-packages"))
        # `addsitedir` and not a plain line: the editable installs of the tests' own environment count too.
        (self.site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
        self.source = folder / "source"
        shutil.copytree(SAMPLES, self.source, ignore=shutil.ignore_patterns("__pycache__"))
        self._wheels = folder / "wheels"
        self._wheels.mkdir()
        plain = sorted(each for each in self.source.iterdir() if each.name not in EDITABLE)
        subprocess.run([sys.executable, "-c", _BUILD, self._wheels, *plain], check=True, cwd=folder)
        upgrade = self._wheel("third_party_upgraded-2.0")
        self._pip(*(wheel for wheel in sorted(self._wheels.iterdir()) if wheel != upgrade))
        self._pip(*(word for name in EDITABLE for word in ("--editable", self.source / name)))
        (self.site / "third_party_malformed-1.0.dist-info" / "METADATA").write_bytes(b"\xff\xfe\x00")

    def upgrade(self) -> None:
        """Install version 2.0 of `third-party-upgraded` in place of 1.0, as `pip install --upgrade` does."""
        self._pip(self._wheel("third_party_upgraded-2.0"))

    def ebmcore(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run the command line in the environment."""
        code = "import sys; from ebmcore.cli import main; sys.exit(main())"
        return subprocess.run(
            [self.python, "-c", code, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )

    def _wheel(self, name: str) -> Path:
        return next(self._wheels.glob(f"{name}-*.whl"))

    def _pip(self, *words: str | Path) -> None:
        subprocess.run([sys.executable, "-m", "pip", "--python", self.python, "install", *_PIP, *words], check=True)
