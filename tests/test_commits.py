"""The commit log: a chunk counts when its line is whole, and a line says what was written."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.protocols import Receipt

LOG = "commits.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    stages = [
        ebm.Stage(ebm.use("mala", step_size=0.1), steps=6, draws=3),
        ebm.Stage(ebm.use("ula", step_size=0.1), steps=4, draws=4),
    ]
    return ebm.sample("double_well", stages, shape=2, chains=300, seed=3, chunk_size=128, out=out, reducers=["moments"])


def test_a_line_holds_the_sha256_of_each_array_as_it_lies_on_disk(made):
    log = rundir.read_log(made.path)
    assert sorted(commit.chunk.lo for commit in log.commits) == [0, 128, 256]
    assert (log.damaged, log.torn) == ((), False)
    for commit in log.commits:
        assert [(block.stage, block.first, block.last) for block in commit.blocks] == [(0, 0, 3), (1, 0, 4)]
        for block in commit.blocks:
            folder = made.path / "data/npy" / ("0" if block.stage == 0 else "")
            assert set(block.sha256) == {file.stem for file in folder.glob("*.npy")}
            for name, digest in block.sha256.items():
                rows = np.load(folder / f"{name}.npy")[commit.chunk.lo : commit.chunk.hi]
                assert hashlib.sha256(rows.tobytes()).hexdigest() == digest


def test_accumulators_come_back_to_the_bit(made):
    for commit in rundir.read_log(made.path).commits:
        receipt = commit.receipt()
        assert set(receipt.reduced) == {"moments", "summary"}
        again = Receipt.from_json(json.loads(json.dumps(receipt.to_json())))
        for name, acc in receipt.reduced.items():
            assert all(torch.equal(value, again.reduced[name][key]) for key, value in acc.items())


@pytest.mark.parametrize("cut", [1, 30, 200, -2])
def test_a_last_line_that_is_half_written_says_nothing(made, tmp_path, cut):
    content = (made.path / LOG).read_bytes()
    whole, last = content[: content[:-1].rfind(b"\n") + 1], content[content[:-1].rfind(b"\n") + 1 :]
    (tmp_path / LOG).write_bytes(whole + last[:cut])
    log = rundir.read_log(tmp_path)
    assert (len(log.commits), log.damaged, log.torn) == (2, (), True)


def test_every_flipped_bit_of_a_line_is_seen(made, tmp_path):
    content = (made.path / LOG).read_bytes()
    first = content.index(b"\n")
    for place in np.random.default_rng(0).choice(first, 200, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / LOG).write_bytes(damaged)
        log = rundir.read_log(tmp_path)
        assert len(log.commits) == 2
        assert log.damaged[0] == 1


@pytest.mark.parametrize(
    "line", ["", "null", "[]", "3", '{"chunk": 3}', '{"check":""}', "[" * 100_000, '{"a":1,"check":"b"}']
)
def test_a_line_of_something_else_is_named_and_not_an_error(tmp_path, line):
    (tmp_path / LOG).write_text(line + "\n")
    assert rundir.read_log(tmp_path) == rundir.Log((), (1,), False)


def test_a_log_is_rewritten_to_the_same_lines(made, tmp_path):
    log = rundir.read_log(made.path)
    rundir.rewrite(tmp_path, log.commits)
    assert (tmp_path / LOG).read_bytes() == (made.path / LOG).read_bytes()


def test_a_log_that_is_gone_is_never_begun_anew_by_a_commit(made, tmp_path):
    with pytest.raises(ebm.RunError, match=r"commits.jsonl' must be written.*No such file.*resume"):
        rundir.commit(tmp_path, rundir.read_log(made.path).commits[0].receipt())
    assert not (tmp_path / LOG).exists()
