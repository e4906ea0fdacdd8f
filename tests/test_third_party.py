"""Distributions of strangers, installed by pip, good and bad: each is listed, and hurts nobody who did not ask for it.

What they are is in `tests/third_party`, how they come into an environment in `tests/installed.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import warnings
from textwrap import dedent
from typing import NamedTuple

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore.cli import main
from ebmcore.registry import renew
from tests.installed import Installed

UNRELATED = """\
[model]
use = "double_well"
dim = 2
[sampler]
use = "mala"
step_size = 0.05
[run]
chains = 200
steps = 6
draws = 2
seed = 7
[engine]
devices = ["cpu:0", "cpu:1"]
[[reducer]]
use = "moments"
"""
"""A run that asks for none of them, and for no writer, executor or noise backend by name."""

ASKING = """\
[model]
use = "double_well"
dim = 2
[sampler]
use = "{name}"
[run]
chains = 200
steps = 6
seed = 7
[engine]
devices = ["cpu:0", "cpu:1"]
chunk_size = 64
"""


class Outcome(NamedTuple):
    """What a run gave, and all that it said, times left out."""

    code: int
    said: str
    complained: str
    bytes: dict[str, str]


def outcome(code, out, err, folder):
    data = folder / "data"
    digests = {
        str(file.relative_to(data)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(data.rglob("*"))
        if file.is_file()
    }
    said = re.sub(r"in [\d.]+ s, [\d,]+ chains/s", "in TIME", out).replace(str(folder), "OUT")
    return Outcome(code, said, err, digests)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def job(tmp_path):
    (tmp_path / "unrelated.toml").write_text(UNRELATED)

    def write(name, more=""):
        (tmp_path / "job.toml").write_text(ASKING.format(name=name) + more)
        return str(tmp_path / "job.toml")

    return write


@pytest.fixture
def unrelated(job, tmp_path, capfd):
    """Return a function that does the unrelated run in this process."""
    count = iter(range(10))

    def run():
        capfd.readouterr()
        out = tmp_path / f"unrelated{next(count)}"
        code = main(["run", str(tmp_path / "unrelated.toml"), "--out", str(out), "--quiet"])
        return outcome(code, *capfd.readouterr(), out)

    return run


@pytest.fixture
def alone(unrelated):
    """What the unrelated run gives where no stranger's distribution is installed."""
    renew()
    return unrelated()


@pytest.fixture
def among(installed, alone, monkeypatch):
    """Put all sample distributions on the path of this process."""
    monkeypatch.syspath_prepend(installed.site)
    renew()
    yield
    renew()
    for name in [name for name in sys.modules if name.startswith("third_party_")]:
        del sys.modules[name]


def imported():
    return {name.partition(".")[0] for name in sys.modules if name.startswith("third_party_")}


# ------------------------------------------------------------------------------------ listing

IMPORTABLE = [
    "aliases", "batch_noise", "changes_dtype", "editable_flat", "editable_src", "exits", "import_error",
    "imports_torch", "no_attribute", "no_dataclass", "own_random", "prints", "raises", "upgraded", "wrong_shape",
    "wrong_signature",
]  # fmt: skip
"""Nothing in the metadata is against them; what they are worth shows when they are asked for."""

LISTED = {
    **{f"sampler tp_{name}": ("available", f"third-party-{name.replace('_', '-')} 1.0", "") for name in IMPORTABLE},
    "noise aa_first": ("available", "third-party-noise-first 1.0", ""),
    "observer tp_observer_raises": ("available", "third-party-observer-raises 1.0", ""),
    "observer tp_observer_slow": ("available", "third-party-observer-slow 1.0", ""),
    "writer tp_writer_fails": ("available", "third-party-writer-fails 1.0", ""),
    "sampler tp_malformed": ("failed", "third-party-malformed", "its metadata cannot be read (UnicodeDecodeError: "),
    "sampler tp_newer_host": (
        "incompatible",
        "third-party-newer-host 1.0",
        f"needs ebmcore>=99, and this is ebmcore {ebm.__version__}",
    ),
    "sampler tp_twin one": ("conflict", "third-party-twin-one 1.0", "also given by third-party-twin-two: write "),
    "sampler tp_twin two": ("conflict", "third-party-twin-two 1.0", "also given by third-party-twin-one: write "),
    "writer npy": ("conflict", "third-party-shadows 1.0", "also given by ebmcore-writers: write "),
    "noise numba": ("conflict", "third-party-shadows 1.0", "also given by ebmcore-kernels: write "),
    "executor threads": ("conflict", "third-party-shadows 1.0", "also given by ebmcore: write "),
}


@pytest.mark.usefixtures("among")
def test_all_are_listed_each_with_its_state_and_none_is_imported(capfd):
    assert main(["plugins", "list"]) == 0
    out, err = capfd.readouterr()
    lines = [re.split(r" {2,}", line) for line in out.splitlines()]
    for entry, (state, distribution, reason) in LISTED.items():
        kind, name, *_ = entry.split()
        (line,) = [line for line in lines if line[:2] == [kind, name] and line[3] == distribution]
        assert line[2] == state, line
        assert "".join(line[4:]).startswith(reason), line
    mine = {(line[0], line[1]) for line in lines if line[0] == "sampler" and line[1].startswith("tp_")}
    assert mine == {tuple(entry.split()[:2]) for entry in LISTED if entry.startswith("sampler")}
    assert (imported(), err) == (set(), "")


def test_listing_them_imports_no_torch_though_one_of_them_does(installed, tmp_path):
    code = "import sys; from ebmcore.cli import main; main(['plugins']); print('torch' in sys.modules, file=sys.stderr)"
    listed = installed.python_code(code, folder=tmp_path)
    assert "tp_imports_torch" in listed.stdout
    assert listed.stderr == "False\n"


# ---------------------------------------------------------------------- asked for, and refused

REFUSED = {
    "import_error": ("failed to load: No module named 'a_package_that_nobody_has'.", "ModuleNotFoundError"),
    "raises": ("failed to load: RuntimeError: no licence was found.", "ask your administrator"),
    "exits": ("failed to load: it exits Python when imported (SystemExit: 3).", "SystemExit: 3"),
    "no_attribute": (
        "must name something in module 'third_party_no_attribute'; got 'Walker', which is not there. "
        "Did you mean 'Walk'?",
        None,
    ),
    "wrong_signature": (
        "must have a method `step(energy, state, noise)`, called with 3 positional arguments; got "
        "`step(self, energy, state)`. Change its arguments.",
        None,
    ),
    "no_dataclass": (
        "must be a frozen dataclass; got the class 'Walk'. Write @dataclass(frozen=True) above it.",
        None,
    ),
}
"""What is said when it is asked for, and a part of the traceback that is kept, if there is one."""


@pytest.mark.usefixtures("among")
@pytest.mark.parametrize("name", REFUSED)
def test_one_that_cannot_be_had_says_why_in_a_line_and_others_run_as_before(name, job, unrelated, alone, capfd):
    message, trace = REFUSED[name]
    label = f"sampler 'tp_{name}' (third-party-{name.replace('_', '-')} 1.0)"
    assert main(["run", job(f"tp_{name}")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"{label} {message}" in err
    assert main(["plugins", "show", f"tp_{name}"]) == 0
    out, err = capfd.readouterr()
    assert "  state         failed: " in out
    assert err == ""
    assert ("traceback" in out) == (trace is not None)
    assert trace is None or trace in out
    main(["plugins", "list"])
    (line,) = [line for line in capfd.readouterr().out.splitlines() if f"tp_{name} " in line]
    assert line.split()[2] == "failed"
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tp_malformed", "sampler 'tp_malformed' (third-party-malformed) failed to load: its metadata cannot be read"),
        (
            "tp_newer_host",
            f"sampler 'tp_newer_host' (third-party-newer-host 1.0) needs ebmcore>=99, and this is ebmcore "
            f"{ebm.__version__}. Install versions that go together.",
        ),
        (
            "tp_twin",
            "sampler 'tp_twin' must come from one distribution; got it from third-party-twin-one 1.0, "
            "third-party-twin-two 1.0. Write 'tp_twin@third-party-twin-one' or 'tp_twin@third-party-twin-two'.",
        ),
    ],
)
def test_what_the_metadata_rules_out_is_refused_without_an_import(name, message, job, unrelated, alone, capfd):
    assert main(["run", job(name)]) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert imported() == set()
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
def test_one_of_two_of_a_name_is_chosen_by_its_distribution(job, tmp_path, capfd):
    assert main(["run", job("tp_twin@third-party-twin-two"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert imported() == {"third_party_twin_two"}
    main(["plugins", "show", "tp_twin"])
    out, err = capfd.readouterr()
    for number in ("one", "two"):
        assert f'use = "tp_twin@third-party-twin-{number}"' in out
    assert err == ""


# ------------------------------------------------------------------- what a run uses by default


@pytest.mark.usefixtures("among")
def test_installed_plugins_change_nothing_of_a_run_that_asks_for_none(unrelated, alone):
    """One gives every name that a run uses by default; another is the first noise backend, and gives no noise."""
    assert alone.code == 0
    assert alone.complained == ""
    assert set(alone.bytes) >= {"npy/draws.npy"}
    assert unrelated() == alone
    assert imported() == set()


@pytest.mark.usefixtures("among")
def test_draws_in_memory_are_those_of_an_environment_without_them(alone, tmp_path):
    table = {"chains": 200, "steps": 6, "draws": 2, "seed": 7, "devices": ["cpu:0", "cpu:1"]}
    result = ebm.sample(ebm.use("double_well", dim=2), ebm.use("mala", step_size=0.05), **table)
    assert torch.equal(result.draws, ebm.open_run(tmp_path / "unrelated0").draws)
    assert imported() == set()


def test_an_environment_with_all_of_them_gives_the_same_bytes_in_a_process_of_its_own(installed, alone, job, tmp_path):
    done = installed.ebmcore("run", "unrelated.toml", "--out", "there", "--quiet", folder=tmp_path)
    assert outcome(done.returncode, done.stdout, done.stderr, tmp_path / "there") == alone


# -------------------------------------------------------------------- asked for, and it works


@pytest.mark.usefixtures("among")
def test_what_one_prints_when_it_is_imported_is_not_in_the_output(job, unrelated, alone, tmp_path, capfd):
    assert main(["run", job("tp_prints"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "thank you for using third-party-prints" in err
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
def test_the_schema_is_json_though_all_are_loaded_for_it(unrelated, alone, capfd):
    assert main(["schema"]) == 0
    out, err = capfd.readouterr()
    assert "tp_prints" in json.dumps(json.loads(out))
    for name in REFUSED:
        assert f"warning: left out: sampler 'tp_{name}' " in err
    assert unrelated() == alone


@pytest.mark.parametrize("layout", ["flat", "src"])
def test_an_editable_install_is_found_and_runs_from_its_source(layout, installed, job, tmp_path):
    name = f"tp_editable_{layout}"
    code = """
        import sys
        from ebmcore.cli import main
        file, name = sys.argv[1:]
        sys.exit(main(["run", file, "--out", "there", "--quiet"]) or main(["plugins", "show", name]))
    """
    done = installed.python_code(dedent(code), job(name), name, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (plugin,) = [plugin for plugin in manifest(tmp_path / "there") if plugin.get("name") == name]
    assert plugin["distribution"] == f"third-party-editable-{layout}"
    assert f"  file          {installed.source / f'editable_{layout}'}" in done.stdout


def manifest(run):
    return json.loads((run / "manifest.json").read_text())["plugins"]


# ------------------------------------------------------------------------ what goes wrong later

WRONG = {
    "wrong_shape": (
        "Walk.step must return one row a chain in every state field, here 3; got [1, 2] in `position`. ",
        "Walk.step must keep the shape of `draws` at every step, [64, 2]; got [1, 2]. ",
    ),
    "changes_dtype": (
        "Walk.step must keep the position's shape, dtype and device, [3, 2] float32 on cpu; "
        "got [3, 2] float64 on cpu. ",
        "Walk.step at step 5 must keep the position's shape, dtype and device, [64, 2] float32 on cpu; "
        "got [64, 2] float64 on cpu. ",
    ),
    "aliases": ("Walk must keep each state field in memory of its own; got fields that share it, ", None),
    "batch_noise": (
        "Walk.step must treat each chain on its own; got a step that changes when other chains leave the batch. ",
        None,
    ),
}
"""What is said of the first step, and of a later one that is the first to be wrong."""


@pytest.mark.usefixtures("among")
@pytest.mark.parametrize("name", WRONG)
def test_a_sampler_that_breaks_its_contract_is_refused_before_the_run(name, job, unrelated, alone, capfd, tmp_path):
    assert main(["run", job(f"tp_{name}"), "--out", str(tmp_path / "out")]) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert WRONG[name][0] in err
    assert not (tmp_path / "out").exists()
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
@pytest.mark.parametrize("name", ["wrong_shape", "changes_dtype"])
def test_a_later_step_that_breaks_it_ends_the_run_with_the_same_rule(name, unrelated, alone):
    table = ebm.use(f"tp_{name}", after=5)
    with pytest.raises(ebm.SamplerError) as caught:
        ebm.sample(ebm.use("double_well", dim=2), table, chains=200, steps=6, seed=7, chunk_size=64)
    assert str(WRONG[name][1]) in str(caught.value)
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
def test_a_sampler_with_random_numbers_of_its_own_is_said_to_be_one(job, unrelated, alone, capfd, tmp_path, recwarn):
    warnings.simplefilter("default")
    assert main(["run", job("tp_own_random"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(
        "warning: Walk.step should give the same result when it is repeated, and does not: it draws from torch's own "
        "generator. The run cannot be repeated or resumed: "
    )
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
def test_a_writer_that_fails_midway_is_named_and_what_was_committed_stays(job, unrelated, alone, capfd, tmp_path):
    more = '[[writer]]\nuse = "npy@ebmcore-writers"\n[[writer]]\nuse = "tp_writer_fails"\nafter = 2\n'
    assert main(["run", job("tp_imports_torch", more), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert (
        "writer 'tp_writer_fails' (third-party-writer-fails 1.0) failed in the run: KeyError: 'chunk' "
        "(third_party_writer_fails.py, line 13). " in err
    )
    commits = (tmp_path / "out" / "commits.jsonl").read_text().splitlines()
    assert len(commits) == 2
    whole = tmp_path / "whole"
    assert (
        main(["run", job("tp_imports_torch"), "--set", 'writer=[{use = "npy@ebmcore-writers"}]', "--out", str(whole)])
        == 0
    )
    one, other = (np.load(each / "data" / "npy" / "draws.npy") for each in (tmp_path / "out", whole))
    for commit in map(json.loads, commits):
        rows = slice(commit["chunk"]["lo"], commit["chunk"]["hi"])
        np.testing.assert_array_equal(one[rows], other[rows])
    capfd.readouterr()
    assert unrelated() == alone


@pytest.mark.usefixtures("among")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tp_observer_raises",
            "warning: observer third_party_observer_raises.Faulty is left out from now on: ebmcore_chunk_done raised "
            "ConnectionError: the dashboard does not answer try again later\n",
        ),
        ("tp_observer_slow", "warning: observer third_party_observer_slow.Slow took "),
    ],
)
def test_an_observer_changes_no_draw_whatever_it_does(name, message, unrelated, alone, capfd, tmp_path, recwarn):
    warnings.simplefilter("default")
    (tmp_path / "watched.toml").write_text(f'{UNRELATED}[[observer]]\nuse = "{name}"\n')
    code = main(["run", str(tmp_path / "watched.toml"), "--out", str(tmp_path / "out"), "--quiet"])
    watched = outcome(code, *capfd.readouterr(), tmp_path / "out")
    assert watched._replace(complained="") == alone
    assert watched.complained.startswith(message)
    assert len(watched.complained.splitlines()) == 1
    (record,) = [each for each in manifest(tmp_path / "out") if each["kind"] == "observer"]
    assert record["distribution"] == name.replace("tp", "third-party").replace("_", "-")
    assert unrelated() == alone


# ------------------------------------------------------------------------------------- the last


@pytest.mark.usefixtures("among")
def test_a_plugin_that_was_upgraded_between_run_and_resume_is_named_and_may_be_accepted(installed, job, tmp_path):
    """It leaves the newer one installed: nothing comes after it."""
    record = {
        "kind": "sampler",
        "name": "tp_upgraded",
        "distribution": "third-party-upgraded",
        "value": "third_party_upgraded:Walk",
    }
    out = tmp_path / "out"
    file = job("tp_upgraded")
    assert main(["run", file, "--out", str(out), "--quiet"]) == 0
    assert {**record, "version": "1.0"} in manifest(out)
    (out / "summary.json").unlink()  # as a process leaves it that was killed after its last chunk
    lines = (out / "commits.jsonl").read_text().splitlines(keepends=True)
    (out / "commits.jsonl").write_text("".join(lines[:-1]))
    installed.put("2.0")
    refused = installed.ebmcore("run", file, "--out", "out", "--resume", "--quiet", folder=tmp_path)
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert "version of third-party-upgraded" in refused.stderr
    assert "1.0" in refused.stderr
    assert "2.0" in refused.stderr
    accepted = installed.ebmcore(
        "run", file, "--out", "out", "--resume", "--accept-changes", "--quiet", folder=tmp_path
    )
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert {**record, "version": "2.0"} in manifest(out)
    (resumed,) = json.loads((out / "manifest.json").read_text())["resumed"]
    assert any("third-party-upgraded" in change for change in resumed["accepted"])
