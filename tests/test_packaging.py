"""Wheels of the host and of each plugin are built, installed where there is no checkout, and work; so are sdists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT, run
from tests.newcomer import FIND, Newcomer

pytestmark = pytest.mark.long

PROJECTS = [ROOT, *sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))]

BUILD = """
import os, sys
from hatchling import build
out, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    build.build_wheel(os.path.join(out, "wheels"))
    build.build_sdist(os.path.join(out, "sdists"))
"""

LOAD = """
import importlib_metadata as m, sys
import ebmcore as ebm
from ebmcore.registry import KINDS
for kind, group in KINDS.items():
    for entry in m.entry_points(group=group):
        ebm.load(kind, entry.name)
        print(kind, entry.name, sys.modules[entry.module].__file__)
"""

JOB = """\
[model]
use = "double_well"
dim = 2
[sampler]
use = "projected"
low = -3.0
high = 3.0
sampler = {use = "mala", step_size = {use = "linear", start = 0.1, end = 0.05}}
[run]
chains = 500
steps = 20
draws = 2
seed = 7
[[writer]]
use = "npy"
[[reducer]]
use = "moments"
[[observer]]
use = "jsonl"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build all of them from a copy of the checkout that is gone afterwards."""
    out = tmp_path_factory.mktemp("built")
    checkout = out / "checkout"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "_build", "runs", "dist", "build")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    for name in ("wheels", "sdists"):
        (out / name).mkdir()
    folders = [checkout / project.relative_to(ROOT) for project in PROJECTS]
    subprocess.run([sys.executable, "-c", BUILD, out, *folders], check=True)
    shutil.rmtree(checkout)
    return out


def project_of(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def contents(wheel):
    """Return what a wheel holds, without the list of it."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("RECORD")}


def wheel_of(folder, wheels):
    name = project_of(folder)["name"].replace("-", "_")
    (found,) = wheels.glob(f"{name}-*.whl")
    return found


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_a_wheel_holds_all_source_its_types_its_licence_and_no_test(folder, built):
    held = contents(wheel_of(folder, built / "wheels"))
    source = folder / "ebmcore" if folder == ROOT else next((folder / "src").iterdir())
    wanted = {
        str(file.relative_to(source.parent))
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    code = {name for name in held if ".dist-info/" not in name}
    assert code == wanted
    assert f"{source.name}/py.typed" in code
    assert any(name.endswith("licenses/LICENSE") for name in held)


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_the_sdist_builds_the_same_wheel(folder, built, tmp_path):
    name = project_of(folder)["name"].replace("-", "_")
    (sdist,) = (built / "sdists").glob(f"{name}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    out = tmp_path / "out"
    (out / "wheels").mkdir(parents=True)
    (out / "sdists").mkdir()
    subprocess.run([sys.executable, "-c", BUILD, out, unpacked], check=True)
    assert contents(wheel_of(folder, out / "wheels")) == contents(wheel_of(folder, built / "wheels"))


def test_the_wheels_work_where_there_is_no_checkout(built, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    newcomer = Newcomer(tmp_path)
    shutil.rmtree(newcomer.checkout)
    assert newcomer.prints(FIND) == "[]"
    newcomer.pip(*sorted((built / "wheels").iterdir()))
    entries = {
        (re.sub("s$", "", group.removeprefix("ebmcore.")), name)
        for folder in PROJECTS
        for group, names in project_of(folder).get("entry-points", {}).items()
        for name in names
    }
    loaded = [line.split() for line in newcomer.prints(LOAD).splitlines()]
    assert {(kind, name) for kind, name, _ in loaded} == entries
    assert all(Path(file).is_relative_to(newcomer.site()) for _, _, file in loaded)
    (newcomer.work / "job.toml").write_text(JOB)
    program = str(newcomer.python.parent / "ebmcore")
    for words, said in (
        (["run", "job.toml", "--quiet"], ""),
        (["show", "runs/job"], "double_well with projected: 500 chains x 20 steps"),
        (["plugins", "list"], "ebmcore-observers 0.1.0"),
        (["--version"], "ebmcore 0.1.0"),
    ):
        done = run([program, *words], newcomer.work, newcomer.env)
        assert done.returncode == 0, done.stdout
        assert said in done.stdout
    read = newcomer.prints("import ebmcore as ebm; r = ebm.open_run('runs/job'); print(tuple(r.draws.shape))")
    assert read == "(500, 2, 2)"
    checked = run([str(newcomer.python), "-m", "pip", "check"], newcomer.work, newcomer.env).stdout
    assert "ebmcore" not in checked, checked


def test_the_host_alone_lists_and_refuses_by_name_what_is_not_there(built, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    newcomer = Newcomer(tmp_path)
    shutil.rmtree(newcomer.checkout)
    newcomer.pip(wheel_of(ROOT, built / "wheels"))
    (newcomer.work / "job.toml").write_text(JOB)
    program = str(newcomer.python.parent / "ebmcore")
    done = run([program, "run", "job.toml"], newcomer.work, newcomer.env)
    assert done.returncode == 2
    assert "pip install ebmcore-" in done.stdout
    listed = run([program, "plugins"], newcomer.work, newcomer.env).stdout
    assert "next: pip install ebmcore-langevin ebmcore-models ebmcore-writers" in listed
