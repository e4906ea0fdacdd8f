"""The same seed gives the same bytes: on any executor, any number of workers, any chunk size, any order of arrival."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import ebmcore as ebm

CHAINS = 10_007


def digest(result) -> str:
    parts = [result.draws.numpy().tobytes(), *(result.stats[name].numpy().tobytes() for name in result.stats)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def moments(result):
    return result.summary()["mean"], result.summary()["sd"]


def transcendental(x):
    """Functions whose vector body and scalar tail round differently in torch."""
    return (nn.functional.selu(x) + torch.cosh(0.3 * x) + x.abs().pow(2.3)).sum(-1)


ENERGIES = {"double_well": (ebm.use("double_well"), (2,)), "transcendental": (transcendental, (3,))}


def draw(energy, **settings):
    model, shape = ENERGIES[energy]
    arguments = {"chains": CHAINS, "shape": shape, "steps": 24, "draws": 3, "seed": 11, **settings}
    return ebm.sample(model, ebm.use("ula", step_size=0.01), **arguments)


@dataclass(frozen=True)
class Shuffled:
    """An executor that returns chunks in an order of its own."""

    seed: int = 0

    def run(self, job, chunks, devices) -> Generator:
        order = list(chunks)
        random.Random(self.seed).shuffle(order)
        for chunk in order:
            yield ebm.run_chunk(job, chunk, devices[0])


@pytest.fixture(scope="module")
def serial():
    return {name: draw(name, executor="serial", chunk_size=CHAINS) for name in ENERGIES}


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_threads_give_the_bytes_of_serial(serial, energy, workers):
    result = draw(energy, executor=ebm.use("threads", workers=workers), chunk_size=640)
    assert digest(result) == digest(serial[energy])
    assert moments(result) == moments(serial[energy])


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("size", [64, 1000, 3333, CHAINS])
def test_chunk_sizes_do_not_matter(serial, energy, size):
    result = draw(energy, executor="threads", chunk_size=size)
    assert digest(result) == digest(serial[energy])
    assert moments(result) == moments(serial[energy])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_of_arrival_does_not_matter(serial, seed):
    result = draw("double_well", executor=Shuffled(seed), chunk_size=640)
    assert digest(result) == digest(serial["double_well"])
    assert moments(result) == moments(serial["double_well"])


def test_workers_that_stand_for_several_devices_give_the_same_bytes(serial):
    result = draw("double_well", devices=["cpu:0", "cpu:1"], chunk_size=640)
    assert digest(result) == digest(serial["double_well"])


def test_a_matrix_product_has_the_same_bytes_for_equal_chunks():
    run = {"chains": 4000, "steps": 20, "seed": 2, "chunk_size": 1024}
    model, sampler = ebm.use("mlp", dim=2, quadratic=1.0), ebm.use("ula", step_size=0.01)
    one = ebm.sample(model, sampler, executor="serial", **run)
    two = ebm.sample(model, sampler, executor=ebm.use("threads", workers=3), **run)
    assert digest(one) == digest(two)


def test_another_seed_gives_other_bytes(serial):
    assert digest(draw("double_well", seed=12)) != digest(serial["double_well"])


def test_chains_do_not_depend_on_how_many_run_beside_them(serial):
    few = draw("double_well", chains=704)
    assert torch.equal(few.draws, serial["double_well"].draws[:704])


def test_kept_draws_are_those_of_the_whole_trajectory():
    model, shape = ENERGIES["double_well"]
    run = {"chains": 200, "shape": shape, "steps": 24, "seed": 11}
    every = ebm.sample(model, ebm.use("ula", step_size=0.01), draws=24, **run)
    some = ebm.sample(model, ebm.use("ula", step_size=0.01), draws=6, **run)
    assert torch.equal(some.draws, every.draws[:, 3::4])


def test_warmup_is_the_beginning_of_the_same_trajectory():
    model, shape = ENERGIES["double_well"]
    run = {"chains": 200, "shape": shape, "seed": 11}
    whole = ebm.sample(model, ebm.use("ula", step_size=0.01), steps=30, draws=30, **run)
    later = ebm.sample(model, ebm.use("ula", step_size=0.01), warmup=10, steps=20, draws=20, **run)
    assert torch.equal(later.draws, whole.draws[:, 10:])


def test_global_random_numbers_and_thread_settings_are_left_alone():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    draw("double_well", chains=1000)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
