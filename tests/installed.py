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
        self._pip(*(wheel for wheel in sorted(self._wheels.iterdir()) if "upgraded-2" not in wheel.name))
        self._pip(*(word for name in EDITABLE for word in ("--editable", self.source / name)))
        self._damaged = self.site / "third_party_malformed-1.0.dist-info" / "METADATA"
        self._whole = self._damaged.read_bytes()
        self._damaged.write_bytes(b"\xff\xfe\x00")

    def put(self, version: str) -> None:
        """Install another version of `third-party-upgraded` in place of the one that is there."""
        # pip itself ends with a traceback beside metadata that it cannot read.
        self._damaged.write_bytes(self._whole)
        self._pip(next(self._wheels.glob(f"third_party_upgraded-{version}-*.whl")))
        self._damaged.write_bytes(b"\xff\xfe\x00")

    def ebmcore(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run the command line in the environment."""
        return self.python_code("import sys; from ebmcore.cli import main; sys.exit(main())", *words, folder=folder)

    def python_code(self, code: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run Python in the environment."""
        return subprocess.run(
            [self.python, "-c", code, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )

    def _pip(self, *words: str | Path) -> None:
        subprocess.run([sys.executable, "-m", "pip", "--python", self.python, "install", *_PIP, *words], check=True)
