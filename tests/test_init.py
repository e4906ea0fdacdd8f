"""Where chains begin: every form of `init`, in Python and in a run file, and a message for every wrong one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ebmcore as ebm
from ebmcore.cli import main

STILL = ebm.use("ula", step_size=1e-12, noise_std=0.0)
"""A sampler that stays where it is, up to rounding: what it keeps is where it began."""

FILE = """\
[model]
use = "gaussian"
[sampler]
use = "ula"
step_size = 1e-12
noise_std = 0.0
[run]
chains = 200
shape = [3]
steps = 1
seed = 5
"""


def begin(init, **settings):
    """Return where the chains of a run begin [chains, *shape]."""
    arguments = {"chains": 200, "shape": (3,), "seed": 5, **settings}
    return ebm.sample(ebm.use("gaussian"), STILL, init=init, steps=1, **arguments).final


def begin_in_file(folder, init, *sets):
    """Return the same, by a run file in `folder` that says `init = ...`."""
    (folder / "job.toml").write_text(FILE + f"init = {init}\n")
    more = [word for override in sets for word in ("--set", override)]
    assert main(["run", str(folder / "job.toml"), "--overwrite", "--quiet", *more]) == 0
    return ebm.open_run(folder / "runs" / "job").final


def points(n, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------- laws


def test_normal_is_standard_normal():
    x = begin("normal", chains=20_000).double().flatten()
    # Standard errors of a mean and of a variance of n standard normals.
    assert abs(float(x.mean())) < 5 / math.sqrt(len(x))
    assert abs(float(x.var()) - 1) < 5 * math.sqrt(2 / len(x))


def test_uniform_is_uniform_on_minus_one_to_one():
    x = begin("uniform", chains=20_000).double().flatten()
    assert -1 <= x.min() < -0.999
    assert 0.999 < x.max() < 1
    # The variance is 1/3, and that of x^2 is 4/45.
    assert abs(float(x.mean())) < 5 * math.sqrt(1 / 3 / len(x))
    assert abs(float(x.square().mean()) - 1 / 3) < 5 * math.sqrt(4 / 45 / len(x))


def test_auto_is_normal_on_the_reals():
    assert torch.equal(begin("auto"), begin("normal"))


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_scale_multiplies(law):
    assert torch.equal(begin({"use": law, "scale": 2.5}), begin(law) * 2.5)


# -------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["start.npy", "start.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_gives_the_positions(tmp_path, name, dtype):
    start = points(200).to(dtype)
    if name.endswith(".npy"):
        np.save(tmp_path / name, start.numpy())
    else:
        save_file({"x": start}, tmp_path / name)
    assert torch.equal(begin(str(tmp_path / name)), start.float())
    assert torch.equal(begin(tmp_path / name), start.float())
    assert torch.equal(begin(name, base=tmp_path), start.float())
    assert torch.equal(begin_in_file(tmp_path, f'"{name}"'), start.float())


def test_chains_and_shape_follow_from_a_file(tmp_path):
    np.save(tmp_path / "start.npy", points(70).numpy())
    assert begin(tmp_path / "start.npy", chains=None, shape=None).shape == (70, 3)
    table = {"use": tmp_path / "start.npy", "repeat": 3}
    assert begin(table, chains=None, shape=None).shape == (210, 3)


def test_a_run_directory_gives_its_last_draws(tmp_path):
    before = ebm.sample(
        ebm.use("gaussian"),
        ebm.use("ula", step_size=0.1),
        chains=200,
        shape=(3,),
        steps=20,
        draws=4,
        seed=1,
        out=tmp_path / "before",
    )
    assert torch.equal(begin(str(tmp_path / "before")), before.final)
    assert torch.equal(begin_in_file(tmp_path, '"before"'), before.final)
    assert torch.equal(begin("before", base=tmp_path, chains=None, shape=None), before.final)


# ---------------------------------------------------------------------------------- functions

FUNCTIONS = """\
def by_id(ids, noise):
    return ids[:, None].float().expand(-1, 3)

def by_noise(ids, noise):
    import torch
    return noise.normal(torch.empty(len(ids), 3)) + 10

NUMBER = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_init.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("use", ["./mine_init.py:by_id", "mine_init.py:by_id", "mine_init:by_id"])
def test_a_reference_names_a_function_of_chain_ids(mine, use):
    wanted = torch.arange(200)[:, None].float().expand(-1, 3)
    assert torch.equal(begin(use, base=mine, chunk_size=64), wanted)
    assert torch.equal(begin_in_file(mine, f'"{use}"', "engine.chunk_size=64"), wanted)


def test_a_function_in_python_and_its_reference_are_the_same(mine):
    import mine_init

    assert torch.equal(begin(mine_init.by_noise), begin("mine_init:by_noise"))


def test_the_noise_of_a_function_is_that_of_the_chain_whatever_the_chunks(mine):
    whole = begin("mine_init:by_noise", executor="serial", chunk_size=200)
    assert torch.equal(begin("mine_init:by_noise", executor=ebm.use("threads", workers=3), chunk_size=64), whole)
    assert len(whole.unique()) > 590


# -------------------------------------------------------------------------------------- repeat


def sources(tmp_path, repeat, chains=200):
    np.save(tmp_path / "few.npy", points(chains // repeat).numpy())
    return {"law": "normal", "file": str(tmp_path / "few.npy"), "function": lambda ids, noise: ids[:, None] + 0.5}


@pytest.mark.parametrize("chunk_size", [64, 128, 200])
@pytest.mark.parametrize("source", ["law", "file", "function"])
@pytest.mark.parametrize("repeat", [2, 5, 40, 100, 200])
def test_superchains_begin_at_one_point_whatever_the_chunks(tmp_path, source, repeat, chunk_size):
    use = sources(tmp_path, repeat)[source]
    if source == "function":
        offset = use
        use = lambda ids, noise: offset(ids, noise).expand(-1, 3)  # noqa: E731
    x = begin({"use": use, "repeat": repeat}, chunk_size=chunk_size)
    groups = x.reshape(200 // repeat, repeat, 3)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert len(groups[:, 0].unique(dim=0)) == 200 // repeat
    if source == "file":
        torch.testing.assert_close(groups[:, 0], points(200 // repeat), rtol=0, atol=1e-6)
    if source == "law":
        # Point i has the noise of chain i: the first points are those of a run of as many chains.
        assert torch.equal(groups[:, 0], begin("normal", chains=200 // repeat))


def test_superchains_part_after_the_start():
    init = {"use": "normal", "repeat": 4}
    sampler = ebm.use("ula", step_size=0.1)
    x = ebm.sample(ebm.use("gaussian", dim=3), sampler, init=init, chains=64, steps=1, seed=2).final
    assert len(x.unique(dim=0)) == 64


def test_scale_and_repeat_go_together_in_a_file(tmp_path):
    np.save(tmp_path / "few.npy", points(50).numpy())
    x = begin_in_file(tmp_path, '{use = "few.npy", scale = 2, repeat = 4}')
    torch.testing.assert_close(x, 2 * points(50).repeat_interleave(4, 0), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------- mistakes


def unfinished(folder):
    ebm.sample(ebm.use("gaussian"), STILL, chains=5, shape=(3,), steps=1, out=folder)
    (folder / "summary.json").unlink()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("norml", "`init` must be a tensor,...got 'norml'. Did you mean 'normal'?"),
        ("start.txt", "`init` must be a tensor,...got 'start.txt'. Use auto, or check the path."),
        ("missing.npy", "`init` must name a file; got '...missing.npy', which is not one. Check the path."),
        ("pickled.npy", "`init` must be a .npy file of one array of numbers;...Save it anew."),
        ("ids.npy", "`init` must be a file of floating numbers...int64...Save it anew."),
        ("wide.npy", "`shape` must be that of `init`, [4]; got [3]. Leave `shape` out."),
        ("few.npy", "`init` must have one row a chain, here 200; got 50."),
        ("nan.npy", "`init` must hold finite numbers; got nan in row 7. Replace it."),
        ("inf.npy", "`init` must hold finite numbers; got -inf in row 3. Replace it."),
        ("two.safetensors", "`init` must be a .safetensors file of one array of numbers;...it holds 2 tensors"),
        ("unfinished", "`init` must be a run that has ended; got '...unfinished', which has not."),
        (".", "a run must have a manifest.json; got '...', which has none."),
        ("mine_init.py:nonesuch", "failed to load: ...'nonesuch', which is not there...by_id"),
        ("mine_init.py:NUMBER", "`init` must name a function of (chain ids, noise); got ...NUMBER"),
        ("nonesuch_module:f", "failed to load: No module named 'nonesuch_module'"),
        ({"use": "normal", "scale": 0}, "`scale` of `init` must be a number > 0; got 0"),
        ({"use": "normal", "scale": math.nan}, "`scale` of `init` must be a number > 0; got nan"),
        ({"use": "normal", "repeat": 1.5}, "`repeat` of `init` must be a whole number >= 1; got 1.5"),
        ({"use": "normal", "repeat": 3}, "`chains` must be a multiple of `repeat` of `init`, 3; got 200. Take 201."),
        ({"use": "few.npy", "repeat": 3}, "`init` must have one row a chain, here 200; got 150."),
        ({"scale": 2}, "an `init` table must have use, and may have scale and repeat; got no `use`"),
        ({"use": "normal", "sclae": 2}, "got the key 'sclae'"),
        (torch.full((200, 3), math.nan), "`init` must hold finite numbers; got nan in row 0"),
        (3, "`init` must be a tensor,...got int"),
        (
            lambda ids, noise: 1 / 0,
            "`init` must accept any chain ids...raised ZeroDivisionError: ...(test_init.py, line",
        ),
        (lambda ids, noise: torch.zeros(len(ids)), "`init` must return positions [4, 3] for 4 chain ids; got [4]"),
    ],
    ids=str,
)
def test_every_wrong_init_has_its_message(mine, init, message):
    np.save(mine / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(mine / "ids.npy", np.zeros((200, 3), "i8"))
    np.save(mine / "wide.npy", np.zeros((200, 4), "f4"))
    np.save(mine / "few.npy", np.zeros((50, 3), "f4"))
    save_file({"a": points(3), "b": points(3)}, mine / "two.safetensors")
    for name, value, row in (("nan.npy", math.nan, 7), ("inf.npy", -math.inf, 3)):
        start = points(200)
        start[row, 1] = value
        np.save(mine / name, start.numpy())
    unfinished(mine / "unfinished")
    with pytest.raises(ebm.InputError) as caught:
        begin(init, base=mine)
    said = str(caught.value)
    assert "\n" not in said
    for part in message.split("..."):
        assert part in said
    assert caught.value.key in ((), ("run", "init"))
