"""Every run records the plugins that it used: kind, name, distribution, version, entry-point value; a file's digest."""

from __future__ import annotations

import hashlib
import json

import importlib_metadata
import pytest

import ebmcore as ebm
from ebmcore.cli import main

MINE = '''
from dataclasses import dataclass, field
from typing import NamedTuple

import ebmcore as ebm


class State(NamedTuple):
    position: object


@dataclass(frozen=True)
class Walk:
    """A random walk: Pearson, "The problem of the random walk", Nature 72 (1905)."""

    scale: float = field(default=0.5, metadata={"gt": 0, "lt": 10, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        return State(noise.perturb_(state.position, self.scale)), None


@dataclass(frozen=True)
class Count:
    @ebm.hookimpl
    def ebmcore_chunk_done(self):
        pass
'''

JOB = """\
[model]
use = "gaussian"
variance = [1.0]
[[stage]]
steps = 2
[stage.sampler]
use = "projected"
low = -4.0
high = 4.0
sampler = {use = "ula", step_size = {use = "linear", start = 0.1, end = 0.01}}
[[stage]]
steps = 2
draws = 1
sampler = {use = "./mine.py:Walk"}
[run]
chains = 100
seed = 1
[engine]
executor = {use = "threads", workers = 2}
noise = "reference"
[[writer]]
use = "npy"
[[reducer]]
use = "moments"
[[observer]]
use = "jsonl"
[[observer]]
use = "./mine.py:Count"
"""


@pytest.fixture
def plugins(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "job.toml").write_text(JOB)
    assert main(["run", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    return json.loads((tmp_path / "out" / "manifest.json").read_text())["plugins"]


INSTALLED = {
    ("model", "gaussian"): "ebmcore-models",
    ("sampler", "projected"): "ebmcore-wrappers",
    ("sampler", "ula"): "ebmcore-langevin",
    ("schedule", "linear"): "ebmcore-schedules",
    ("executor", "threads"): "ebmcore",
    ("noise", "reference"): "ebmcore",
    ("writer", "npy"): "ebmcore-writers",
    ("reducer", "moments"): "ebmcore-reducers",
    ("observer", "jsonl"): "ebmcore-observers",
}


def test_each_installed_plugin_is_recorded_as_its_entry_point_has_it(plugins):
    found = {(each["kind"], each["name"]): each for each in plugins if "distribution" in each}
    assert set(found) == set(INSTALLED), "those in settings too, at any depth"
    for (kind, name), home in INSTALLED.items():
        (entry,) = importlib_metadata.distribution(home).entry_points.select(
            group=f"ebmcore.{kind}s" if kind != "noise" else "ebmcore.noise", name=name
        )
        assert found[kind, name] == {
            "kind": kind,
            "name": name,
            "distribution": home,
            "version": importlib_metadata.version(home),
            "value": entry.value,
        }


def test_a_file_is_recorded_with_the_digest_of_its_source(plugins):
    digest = hashlib.sha256(MINE.encode()).hexdigest()
    of_file = [each for each in plugins if each.get("value", "").startswith("./mine.py")]
    assert [(each["kind"], each["value"], each["digest"]) for each in of_file] == [
        ("sampler", "./mine.py:Walk", digest),
        ("observer", "./mine.py:Count", digest),
    ]


def test_an_object_of_the_program_is_recorded_as_one(tmp_path):
    def energy(x):
        return x.square().sum(-1)

    result = ebm.sample(energy, ebm.use("ula", step_size=0.1), chains=10, shape=(1,), steps=1)
    (model,) = [each for each in result.provenance["plugins"] if each["kind"] == "model"]
    assert model["of"] == f"{__name__}.{energy.__qualname__}"
    assert "distribution" not in model


def test_show_says_settings_with_type_bounds_default_and_help_paper_origin_and_state(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "show", "./mine.py:Walk"]) == 0
    out = capsys.readouterr().out
    assert "  state   loaded" in out
    assert "  direct  ./mine.py:Walk" in out
    assert f"  sha256  {hashlib.sha256(MINE.encode()).hexdigest()}" in out
    assert 'Pearson, "The problem of the random walk", Nature 72 (1905).' in out
    assert "  scale  number > 0 and < 10  default 0.5  standard deviation of a step" in out


@pytest.mark.parametrize(("kind", "name"), INSTALLED)
def test_show_says_of_each_installed_one_where_it_comes_from(kind, name, capsys):
    assert main(["plugins", "show", f"{kind}:{name}"]) == 0
    rows = dict(line.strip().split(None, 1) for line in capsys.readouterr().out.splitlines()[2:5])
    home = INSTALLED[kind, name]
    assert rows["state"] == "loaded"
    assert rows["distribution"] == f"{home} {importlib_metadata.version(home)}"
