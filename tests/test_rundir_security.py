"""A run directory from a stranger is data: looked at, verified, opened or resumed, nothing in it runs or leads out."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.cli import main
from tests.test_resume import FILE, WELL, cut, same


class Bomb:
    """Writes the sentinel wherever it is unpickled."""

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return open, (str(self.sentinel), "w")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    (folder / "well.py").write_text(WELL)
    (folder / "job.toml").write_text(FILE)
    assert main(["run", str(folder / "job.toml"), "--quiet", "--out", str(folder / "whole")]) == 0
    return folder


@pytest.fixture
def sentinel(tmp_path):
    return tmp_path / "sentinel"


@pytest.fixture(params=["whole", "unfinished"])
def run(request, made, tmp_path):
    shutil.copytree(made / "whole", tmp_path / "whole")
    return cut(tmp_path / "whole", "run", keep=3) if request.param == "unfinished" else tmp_path / "whole"


@pytest.fixture
def evil(tmp_path, sentinel):
    """A module that writes the sentinel when it is imported, by file and by name."""
    (tmp_path / "evil.py").write_text(f"open({str(sentinel)!r}, 'w')\nclass Evil:\n    pass\n")
    sys.path.insert(0, str(tmp_path))
    yield tmp_path / "evil.py"
    sys.path.remove(str(tmp_path))


def everything(made, run):
    """Do all that can be done with a run directory; return the codes of the commands."""
    codes = [main([command, str(run)]) for command in ("show", "verify")]
    codes.append(main(["run", str(made / "job.toml"), "--out", str(run), "--resume", "--quiet"]))
    codes.append(main(["run", str(made / "job.toml"), "--out", str(run), "--resume", "--quiet", "--accept-changes"]))
    for take in (lambda: ebm.open_run(run).draws, lambda: ebm.open_run(run).stats["lp"]):
        try:
            take()
        except ebm.EbmcoreError:
            codes.append(1)
    out = run.with_name("from_it")
    settings = {"out": out, "steps": 1, "overwrite": True, "seed": 1}
    try:
        ebm.sample("double_well", ebm.use("ula", step_size=1e-3), init=str(run), **settings)
    except ebm.EbmcoreError:
        codes.append(1)
    return codes


def edit(run, change):
    manifest = json.loads((run / "manifest.json").read_text())
    change(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))


# ------------------------------------------------------------------------------- named objects


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("form", ["{file}:Evil", "evil:Evil"])
@pytest.mark.parametrize(
    "key", ["energy", "sampler", "writers", "reducers", "noise", "gradient", "init", "condition", "setting", "executor"]
)
def test_a_manifest_that_names_an_object_runs_nothing(made, run, evil, sentinel, capsys, key, form):
    use = form.format(file=evil)

    def change(manifest):
        job = manifest["job"]
        if key == "sampler":
            job["stages"][0]["sampler"] = {"use": use}
        elif key in ("writers", "reducers"):
            job[key] = [{"use": use, "name": "npy"}, *job[key]]
        elif key == "setting":
            job["writers"] = [{"use": "npy", "codec": {"use": use}, "name": "npy"}]
        elif key == "executor":
            manifest["executor"] = {"use": use}
        else:
            job[key] = {"noise": use, "gradient": use, "condition": {"y": {"path": use}}}.get(key, {"use": use})

    edit(run, change)
    everything(made, run)
    assert not sentinel.exists()
    assert "bug" not in capsys.readouterr().err


def test_a_run_file_in_the_directory_is_never_run(made, run, evil, sentinel):
    (run / "run.toml").write_text(f'[model]\nuse = "{evil}:Evil"\n[sampler]\nuse = "ula"\n')
    assert everything(made, run)[2] == 0
    assert not sentinel.exists()
    same(run, made / "whole")


def test_an_origin_is_quoted_and_not_run(made, run, sentinel, capsys):
    file = run / f"a; touch {sentinel.name}"
    file.write_text("")
    edit(run, lambda manifest: manifest.update(origin={"file": str(file), "set": [f"$(touch {sentinel})"]}))
    (run / "summary.json").unlink(missing_ok=True)
    assert main(["show", str(run)]) == 0
    last = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    os.system(last.replace("ebmcore ", "true ", 1))  # as a user would paste it
    assert not sentinel.exists()
    edit(run, lambda manifest: manifest.update(origin=["x"]))
    assert main(["show", str(run)]) == 0


# ------------------------------------------------------------------------------------- pickles


def object_array(bomb):
    return np.array([bomb], dtype=object)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("place", ["data/npy/draws.npy", "data/npy/stats.lp.npy", "data/npy/0/draws.npy"])
@pytest.mark.parametrize("form", ["npy", "pickle", "npz"])
def test_a_pickle_in_place_of_data_is_not_loaded(made, run, sentinel, capsys, place, form):
    with (run / place).open("wb") as file:
        if form == "npy":
            np.save(file, object_array(Bomb(sentinel)), allow_pickle=True)
        elif form == "npz":
            np.savez(file, x=object_array(Bomb(sentinel)))
        else:
            pickle.dump(Bomb(sentinel), file)
    codes = everything(made, run)
    assert codes[1] == 1, "verify names it"
    assert "bug" not in capsys.readouterr().err
    assert not sentinel.exists()


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_in_place_of_a_checkpoint_or_of_text_is_not_loaded(made, run, sentinel, capsys, form):
    for name in ("checkpoints/192-256.safetensors", "summary.json", "run.toml"):
        if form == "torch":
            torch.save({"x": Bomb(sentinel)}, run / name)
            assert zipfile.is_zipfile(run / name)
        else:
            (run / name).write_bytes(pickle.dumps(Bomb(sentinel)))
    everything(made, run)
    assert "bug" not in capsys.readouterr().err
    (run / "summary.json").unlink(missing_ok=True)
    assert everything(made, run)[2] == 0
    for name in ("commits.jsonl", "manifest.json"):
        (run / name).write_bytes(pickle.dumps(Bomb(sentinel)))
        everything(made, run)
    assert "bug" not in capsys.readouterr().err
    assert not sentinel.exists()


def test_a_pickle_in_place_of_weights_is_not_loaded(tmp_path, sentinel, capsys):
    torch.save({"layers.0.weight": Bomb(sentinel)}, tmp_path / "w.safetensors")
    (tmp_path / "job.toml").write_text(
        '[model]\nuse = "mlp"\ndim = 2\nweights = "w.safetensors"\n[sampler]\nuse = "ula"\nstep_size = 0.1\n'
        "[run]\nchains = 4\nsteps = 2\n"
    )
    assert main(["run", str(tmp_path / "job.toml"), "--resume"]) == 2
    assert "`weights` must be a safetensors file" in capsys.readouterr().err
    assert not sentinel.exists()


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("dtype", ["O", "object", "V8", "datetime64[s]", "float32"])
def test_a_log_with_accumulators_of_its_own_is_not_believed(made, run, sentinel, dtype):
    """Whoever writes a log can write its checksums too."""
    lines = []
    for line in (run / "commits.jsonl").read_text().splitlines():
        data = json.loads(line)
        del data["check"]
        data["reduced"]["summary"]["mean"] = {"dtype": dtype, "shape": [1], "data": "gASVAAAAAAAAAAA="}
        text = json.dumps(data, separators=(",", ":"))
        lines.append(f'{text[:-1]},"check":"{hashlib.sha256(text.encode()).hexdigest()}"}}\n')
    (run / "commits.jsonl").write_text("".join(lines))
    assert everything(made, run)[2] == 0
    assert not sentinel.exists()
    if (run / "summary.json").stat().st_size and len(rundir.read_log(run).commits) == 8:
        assert np.isfinite(json.loads((run / "summary.json").read_text())["mean"]).all()


# --------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "..", ".", "a/b", "a\\b", "", "\0"])
@pytest.mark.parametrize("kind", ["writer", "array", "reducer"])
def test_a_name_that_leads_out_is_refused(made, run, tmp_path, capsys, name, kind):
    outside = tmp_path.parent / "outside"

    def change(manifest):
        job = manifest["job"]
        if kind == "array":
            for layout in job["layouts"]:
                layout["arrays"][name] = layout["arrays"]["draws"]
        else:
            job[f"{kind}s"][0] = {"use": "npy", "name": name}

    edit(run, change)
    assert set(everything(made, run)) & {0} == set()
    assert "must be readable; got ValueError" in capsys.readouterr().err
    assert not outside.exists()


@pytest.mark.parametrize(
    "place",
    ["data/npy/draws.npy", "data/npy", "data", "checkpoints", "commits.jsonl", "manifest.json", "lock", "run.toml"],
)
def test_a_symbolic_link_is_never_written_through(made, run, tmp_path, capsys, place):
    target = tmp_path / "elsewhere"
    (run / place).rename(target)
    (run / place).symlink_to(target)
    if target.is_dir():
        (target / "mine.safetensors").write_text("mine")
    before = {
        file: file.read_bytes() for file in (target.rglob("*") if target.is_dir() else [target]) if file.is_file()
    }
    code = main(["run", str(made / "job.toml"), "--out", str(run), "--resume", "--quiet"])
    assert code == 2
    err = capsys.readouterr().err
    assert "must hold no symbolic links" in err or "must be one that can be written; got: Too many levels" in err
    assert {file: file.read_bytes() for file in before} == before


def test_a_run_directory_may_itself_be_reached_by_a_link(made, tmp_path):
    shutil.copytree(made / "whole", tmp_path / "whole")
    run = cut(tmp_path / "whole", "run", keep=3)
    (tmp_path / "latest").symlink_to(run)
    assert main(["run", str(made / "job.toml"), "--out", str(tmp_path / "latest"), "--resume", "--quiet"]) == 0
    same(run, made / "whole")
    assert (tmp_path / "latest").is_symlink()
