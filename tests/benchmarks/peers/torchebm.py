"""TorchEBM: its LangevinDynamics, as its guide calls it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchebm.core import BaseModel, DoubleWellModel, GaussianModel
from torchebm.samplers import LangevinDynamics

from tests.benchmarks.peers import Peer
from tests.benchmarks.peers.torch_energies import energy
from tests.benchmarks.problems import Problem, covariance


class Own(BaseModel):
    """A network of the user's own in the class that TorchEBM asks for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        return self.network(x)


def langevin(problem: Problem) -> Peer:
    """Return `LangevinDynamics` with TorchEBM's own model, or a network in its base class."""
    sampler = LangevinDynamics(_model(problem), step_size=problem.step_size, noise_scale=1.0)

    def sample(n: int) -> np.ndarray:
        start = torch.randn(n, *problem.shape)
        return sampler.sample(x=start, n_steps=problem.steps, return_trajectory=False).numpy()

    return Peer(sample)


def _model(problem: Problem) -> BaseModel:
    if problem.energy == "double_well":
        return DoubleWellModel(barrier_height=2.0, b=1.0)
    if problem.energy == "gaussian":
        cov = torch.from_numpy(covariance(problem)).float()
        return GaussianModel(torch.zeros(len(cov)), cov)
    return Own(energy(problem))
