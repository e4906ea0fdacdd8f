"""ebmcore as a user calls it, with its default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import ebmcore as ebm
from tests.benchmarks.peers import Peer, torch_energies
from tests.benchmarks.problems import Problem, covariance


def sample(problem: Problem) -> Peer:
    """Return `ebm.sample` of the installed model, or of a user's own module where there is none for it."""
    return _sample(problem, _model(problem))


def own(problem: Problem) -> Peer:
    """Return `ebm.sample` of the energy as a module of the user's own."""
    return _sample(problem, torch_energies.energy(problem))


def session(problem: Problem) -> Peer:
    """Return `ebm.Session`, as a training loop calls it."""
    runs = ebm.Session(torch_energies.energy(problem), _ula(problem), seed=0)
    return Peer(lambda n: runs.run(torch.randn(n, *problem.shape), problem.steps).numpy())


def _sample(problem: Problem, model: Any) -> Peer:
    settings: dict[str, Any] = {"shape": problem.shape, "steps": problem.steps, "seed": 0, "progress": False}
    if problem.workers:
        settings["devices"] = ["cpu"] * problem.workers

    def in_memory(n: int) -> np.ndarray:
        return ebm.sample(model, _ula(problem), chains=n, **settings).final.numpy()

    def to_disk(n: int, folder: Path) -> np.ndarray:
        ebm.sample(model, _ula(problem), chains=n, out=folder, **settings)
        # Not all of it: memory is what is measured beside time.
        return np.load(folder / "data/npy/draws.npy", mmap_mode="r")[:100_000, 0]

    return Peer(in_memory, to_disk)


def _ula(problem: Problem) -> Any:
    return ebm.use("ula", step_size=problem.step_size)


def _model(problem: Problem) -> Any:
    if problem.energy == "double_well":
        return ebm.use("double_well", dim=problem.shape[0])
    if problem.energy == "gaussian":
        return ebm.use("gaussian", covariance=covariance(problem).tolist())
    return torch_energies.energy(problem)
