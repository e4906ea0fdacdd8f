"""The lint rule that keeps plugins to what is public: it knows all of ours, and catches one that imports more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documents import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in CONFIG["contracts"]}
PLUGINS = sorted(package.name for package in ROOT.glob("plugins/*/src/*") if (package / "__init__.py").is_file())
PUBLIC = "Plugins see of the host what is public: ebmcore, its protocols and its errors"


def test_every_plugin_is_in_every_rule():
    assert len(PLUGINS) > 5
    assert set(CONFIG["root_packages"]) == {"ebmcore", *PLUGINS}
    assert set(CONTRACTS["The host imports no plugin"]["forbidden_modules"]) == set(PLUGINS)
    assert set(CONTRACTS["Plugins do not import each other"]["modules"]) == set(PLUGINS)
    assert set(CONTRACTS[PUBLIC]["source_modules"]) == set(PLUGINS)
    assert CONTRACTS[PUBLIC]["forbidden_modules"] == ["ebmcore.*"]


def test_the_rule_is_the_same_for_all_of_them_and_lets_through_what_a_stranger_may_use():
    allowed = {tuple(rule.split(" -> ")) for rule in CONTRACTS[PUBLIC]["ignore_imports"]}
    assert allowed == {(f"{name}.**", f"ebmcore.{part}") for name in PLUGINS for part in ("errors", "protocols")}


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("from ebmcore.engine import run_chunk", PUBLIC),
        ("import ebmcore.registry.process", PUBLIC),
        ("def late():\n    from ebmcore.noise import CounterNoise", PUBLIC),
        ("import ebmcore_models.dot", "Plugins do not import each other"),
        ("import ebmcore as ebm\nfrom ebmcore.errors import InputError\nfrom ebmcore.protocols import Noise", None),
    ],
)
def test_a_copy_that_imports_more_is_caught(statement, broken, tmp_path):
    """A copy of one plugin with one line more stands before the real one on the path; the configuration is ours."""
    shutil.copytree(ROOT / "plugins/ebmcore-schedules/src/ebmcore_schedules", tmp_path / "ebmcore_schedules")
    (tmp_path / "ebmcore_schedules" / "more.py").write_text(statement + "\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (broken is None), done.stdout
    kept = [line for line in done.stdout.splitlines() if line.endswith(" BROKEN") or " BROKEN " in line]
    assert [line.partition(" BROKEN")[0] for line in kept] == ([] if broken is None else [broken])
    assert broken is None or "ebmcore_schedules.more -> " in done.stdout
