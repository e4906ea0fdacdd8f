"""Wrong samplers: ULA and MALA on exact settings, each with one fault."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.mutants import Mutant

STEP = {"gt": 0, "description": "length of a step"}


class State(NamedTuple):
    position: Tensor


class MHState(NamedTuple):
    position: Tensor
    value: Tensor
    gradient: Tensor


class Info(NamedTuple):
    acceptance_rate: Tensor
    lp: Tensor


@dataclass(frozen=True)
class ULA:
    """Right, as it stands."""

    step_size: float = field(default=0.1, metadata=STEP)

    def init(self, energy, position, noise):
        return State(position)

    def drift(self, energy, x):
        return energy.gradient(x)

    def scale(self):
        return math.sqrt(2 * self.step_size)

    def step(self, energy, state, noise):
        x = state.position
        g = self.drift(energy, x)
        return State(noise.perturb_(x, self.scale(), drift=g, drift_scale=-self.step_size)), None


@dataclass(frozen=True)
class StridingULA(ULA):
    """Right, as it stands."""

    def count(self, steps):
        return steps

    def stride(self, energy, noise):
        move = noise.stride(energy, self.scale(), drift_scale=-self.step_size)
        return None if move is None else lambda state, steps: State(move(state.position, self.count(steps)))


class ShortStride(StridingULA):
    def count(self, steps):
        return max(1, steps - 1)


class WeakStride(StridingULA):
    def stride(self, energy, noise):
        move = noise.stride(energy, self.scale(), drift_scale=-0.9 * self.step_size)
        return None if move is None else lambda state, steps: State(move(state.position, steps))


@dataclass(frozen=True)
class MALA:
    """Right, as it stands."""

    step_size: float = field(default=0.3, metadata=STEP)
    law: ClassVar[str] = "reversible"

    def init(self, energy, position, noise):
        return MHState(position, *energy.value_and_gradient(position))

    def ratio(self, x, u, g, y, v, h):
        forth = (y - x + self.step_size * g).reshape(len(x), -1).square().sum(1) / (4 * self.step_size)
        back = (x - y + self.step_size * h).reshape(len(x), -1).square().sum(1) / (4 * self.step_size)
        return u - v + forth - back

    def step(self, energy, state, noise):
        x, u, g = state
        y = noise.perturb_(x.clone(), math.sqrt(2 * self.step_size), drift=g, drift_scale=-self.step_size)
        coin = noise.uniform_per_chain()
        v, h = energy.value_and_gradient(y)
        rate = self.ratio(x, u, g, y, v, h).clamp(max=0).exp()
        return self.choose(coin < rate, (y, v, h), (x, u, g), rate)

    def choose(self, accepted, new, old, rate):
        after = MHState(
            *(torch.where(accepted.reshape(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True))
        )
        return after, Info(rate, -after.value)


class DoubledNoise(ULA):
    def scale(self):
        return math.sqrt(4 * self.step_size)


class NoRootTwo(ULA):
    def scale(self):
        return math.sqrt(self.step_size)


class NoNoise(ULA):
    def step(self, energy, state, noise):
        return State(state.position - self.step_size * energy.gradient(state.position)), None


class WeakGradient(ULA):
    def drift(self, energy, x):
        return 0.85 * energy.gradient(x)


class ShiftedGradient(ULA):
    def drift(self, energy, x):
        return energy.gradient(x) + 0.1


class Uphill(ULA):
    def drift(self, energy, x):
        return -energy.gradient(x)


class ClippedGradient(ULA):
    def drift(self, energy, x):
        return energy.gradient(x).clamp(-0.5, 0.5)


class BatchMean(ULA):
    def drift(self, energy, x):
        g = energy.gradient(x)
        return g + 0.01 * (x - x.mean(0, keepdim=True))


class SharedNoise(ULA):
    def step(self, energy, state, noise):
        x = state.position
        u = noise.shared(max(1, math.prod(x.shape[1:]))).to(x.dtype).reshape(1, *x.shape[1:])
        z = math.sqrt(12) * (u - 0.5)
        return State(x - self.step_size * energy.gradient(x) + self.scale() * z), None


class TorchNoise(ULA):
    def step(self, energy, state, noise):
        x = state.position
        return State(x - self.step_size * energy.gradient(x) + self.scale() * torch.randn_like(x)), None


class SeededTorchNoise(ULA):
    def step(self, energy, state, noise):
        x = state.position
        source = torch.Generator().manual_seed(noise.t)
        z = torch.randn(x.shape, generator=source, dtype=x.dtype)
        return State(x - self.step_size * energy.gradient(x) + self.scale() * z), None


class NumpyNoise(ULA):
    def step(self, energy, state, noise):
        x = state.position
        z = torch.as_tensor(np.random.standard_normal(tuple(x.shape))).to(x.dtype)  # noqa: NPY002
        return State(x - self.step_size * energy.gradient(x) + self.scale() * z), None


class ReseedsTorch(ULA):
    def step(self, energy, state, noise):
        torch.manual_seed(0)
        return super().step(energy, state, noise)


class BatchDependentNoise(ULA):
    def step(self, energy, state, noise):
        x = state.position
        if len(x) > 100:
            noise.uniform_per_chain()
        return super().step(energy, state, noise)


class DataDependentNoise(ULA):
    def step(self, energy, state, noise):
        if bool((state.position.abs() > 4).any()):
            noise.uniform_per_chain()
        return super().step(energy, state, noise)


class Casts(ULA):
    def step(self, energy, state, noise):
        after, info = super().step(energy, state, noise)
        return State(after.position.double()), info


class Truncates(ULA):
    def step(self, energy, state, noise):
        after, info = super().step(energy, state, noise)
        return State(after.position.float().to(after.position.dtype)), info


class VectorsOnly(ULA):
    def step(self, energy, state, noise):
        x = state.position
        g = energy.gradient(x)
        norm = g.norm(dim=1, keepdim=True)
        return State(noise.perturb_(x, self.scale(), drift=g * (norm / norm), drift_scale=-self.step_size)), None


COUNTER = [0]


class CountsInModule(ULA):
    def step(self, energy, state, noise):
        COUNTER[0] += 1
        x = state.position
        g = energy.gradient(x)
        length = self.step_size * (1 + 0.01 * COUNTER[0])
        return State(noise.perturb_(x, self.scale(), drift=g, drift_scale=-length)), None


@dataclass(frozen=True)
class KeepsInItself(ULA):
    step_size: float = field(default=0.1, metadata=STEP)
    held: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def init(self, energy, position, noise):
        self.held["momentum"] = torch.zeros_like(position)
        return State(position)

    def step(self, energy, state, noise):
        x, before = state.position, self.held["momentum"]
        g = energy.gradient(x)
        self.held["momentum"] = g
        if before.shape == g.shape:
            g = g + 0.01 * before
        return State(noise.perturb_(x, self.scale(), drift=g, drift_scale=-self.step_size)), None


@dataclass(frozen=True)
class CountsInItself(ULA):
    step_size: float = field(default=0.1, metadata=STEP)
    held: list = field(default_factory=lambda: [0], init=False, repr=False, compare=False)

    def init(self, energy, position, noise):
        self.held[0] = 0
        return State(position)

    def step(self, energy, state, noise):
        self.held[0] += 1
        length = self.step_size * 0.9 ** self.held[0]
        x, g = state.position, energy.gradient(state.position)
        return State(noise.perturb_(x, math.sqrt(2 * length), drift=g, drift_scale=-length)), None


@dataclass(frozen=True)
class MutableSettings(ULA):
    step_size: float = field(default=0.1, metadata=STEP)
    lengths: list[float] = field(default_factory=lambda: [0.1], metadata={"description": "lengths of steps"})


@dataclass(frozen=True)
class RoundsSettings(ULA):
    step_size: float = field(default=0.123, metadata=STEP)

    def __post_init__(self):
        object.__setattr__(self, "step_size", self.step_size * 1.5)


class CallsValue(ULA):
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def step(self, energy, state, noise):
        energy.value(state.position)
        return super().step(energy, state, noise)


class AsksTheModel(ULA):
    def drift(self, energy, x):
        if hasattr(energy.model, "gradient"):
            return energy.model.gradient(x).clone()
        return energy.gradient(x)


class Scribbles(ULA):
    def step(self, energy, state, noise):
        for tensor in getattr(energy, "_condition", {}).values():
            tensor.add_(1.0)
        return super().step(energy, state, noise)


class ExpandedState(NamedTuple):
    position: Tensor
    scale: Tensor


class SharesARow(ULA):
    def init(self, energy, position, noise):
        return ExpandedState(position, position.new_ones(1).expand(len(position)))

    def step(self, energy, state, noise):
        after, _ = super().step(energy, State(state.position), noise)
        return ExpandedState(after.position, state.scale), None


class StandsStill(ULA):
    def step(self, energy, state, noise):
        noise.normal(state.position)
        return state, None


class AcceptsAll(MALA):
    def choose(self, accepted, new, old, rate):
        return super().choose(torch.ones_like(accepted), new, old, torch.ones_like(rate))


class WrongSign(MALA):
    def ratio(self, x, u, g, y, v, h):
        return -super().ratio(x, u, g, y, v, h)


class NoProposalTerm(MALA):
    def ratio(self, x, u, g, y, v, h):
        return u - v


class ForgetsToReject(MALA):
    def choose(self, accepted, new, old, rate):
        after, info = super().choose(accepted, new, old, rate)
        return MHState(after.position, new[1], new[2]), info


@dataclass(frozen=True)
class OneCoin(MALA):
    step_size: float = field(default=1.0, metadata=STEP)

    def step(self, energy, state, noise):
        x, u, g = state
        y = noise.perturb_(x.clone(), math.sqrt(2 * self.step_size), drift=g, drift_scale=-self.step_size)
        coin = noise.uniform_per_chain()
        v, h = energy.value_and_gradient(y)
        rate = self.ratio(x, u, g, y, v, h).clamp(max=0).exp()
        return self.choose((coin < rate).any().expand(len(x)), (y, v, h), (x, u, g), rate)


class LogarithmOfRate(MALA):
    def choose(self, accepted, new, old, rate):
        after, info = super().choose(accepted, new, old, rate)
        return after, Info(rate.log(), info.lp)


class OldLp(MALA):
    def choose(self, accepted, new, old, rate):
        after, info = super().choose(accepted, new, old, rate)
        return after, Info(info.acceptance_rate, -new[1])


@dataclass(frozen=True)
class SpinFlips:
    """Single-site Metropolis on binary sites, right as it stands."""

    support: ClassVar[frozenset[str]] = frozenset({"binary"})
    needs: ClassVar[frozenset[str]] = frozenset({"value"})

    def init(self, energy, position, noise):
        return State(position)

    def temper(self, difference):
        return difference

    def step(self, energy, state, noise):
        x = state.position
        flat = x.reshape(len(x), -1)
        site = (noise.uniform_per_chain() * flat.shape[1]).long().clamp(max=flat.shape[1] - 1)
        flipped = flat.clone()
        rows = torch.arange(len(x))
        flipped[rows, site] = 1 - flipped[rows, site]
        y = flipped.reshape(x.shape)
        rate = torch.exp(self.temper(energy.value(x) - energy.value(y)))
        accepted = (noise.uniform_per_chain() < rate).reshape(-1, *(1,) * (x.ndim - 1))
        return State(torch.where(accepted, y, x)), None


class HotSpins(SpinFlips):
    def temper(self, difference):
        return 0.8 * difference


class ColdSpins(SpinFlips):
    def temper(self, difference):
        return -difference


RIGHT = [ULA(), StridingULA(), MALA(), SpinFlips()]

MUTANTS = [
    Mutant("sampler", make(), wrong, caught)
    for make, wrong, caught in [
        (ShortStride, "a stride that is a step short", "strides"),
        (WeakStride, "a stride with the gradient times 0.9", "strides"),
        (DoubledNoise, "noise scale sqrt(4 eps) in place of sqrt(2 eps)", "gaussian_moments"),
        (NoRootTwo, "noise scale sqrt(eps)", "gaussian_moments"),
        (NoNoise, "no noise: gradient descent", "repeats"),
        (WeakGradient, "gradient times 0.85", "gaussian_moments"),
        (ShiftedGradient, "gradient biased by 0.1", "gaussian_moments"),
        (ClippedGradient, "gradient clipped at 0.5", "gaussian_moments"),
        (Uphill, "gradient of the other sign", "forgets_its_start"),
        (AsksTheModel, "asks energy.model: temperature and conditions are ignored", "user_tensors"),
        (BatchMean, "drift depends on the mean of the batch", "chains_are_independent"),
        (SharedNoise, "one noise for all chains", "chains_differ"),
        (TorchNoise, "torch.randn_like", "global_randomness"),
        (SeededTorchNoise, "a torch generator seeded by the step: seeds depend on the chunk", "split"),
        (NumpyNoise, "numpy's global random numbers", "global_randomness"),
        (ReseedsTorch, "torch.manual_seed in a step", "global_randomness"),
        (BatchDependentNoise, "one call of noise more in large batches", "noise_calls"),
        (DataDependentNoise, "one call of noise more when some chain is far out", "chains_are_independent"),
        (Casts, "float64 positions in a float32 run", "dtypes"),
        (Truncates, "float64 truncated to float32", "dtypes"),
        (VectorsOnly, "a norm over axis 1: scalars fail", "shapes"),
        (CountsInModule, "a counter in the module", "repeats"),
        (KeepsInItself, "a buffer in the sampler", "interleaved"),
        (CountsInItself, "a counter in the sampler: lost by a checkpoint", "continues_from_a_copy_of_its_state"),
        (MutableSettings, "a setting that is a list", "settings_are_frozen"),
        (RoundsSettings, "settings changed in __post_init__", "settings_round_trip"),
        (CallsValue, "calls value, declares gradient alone", "needs"),
        (Scribbles, "overwrites the user's condition", "user_tensors"),
        (SharesARow, "a state field that is one row seen through all", "state_type"),
        (StandsStill, "never moves", "forgets_its_start"),
        (AcceptsAll, "no Metropolis correction, and an acceptance rate of 1", "gaussian_moments"),
        (WrongSign, "acceptance ratio of the other sign", "gaussian_moments"),
        (NoProposalTerm, "acceptance ratio without q(x | x') / q(x' | x)", "detailed_balance"),
        (ForgetsToReject, "value and gradient of a rejected proposal kept", "gaussian_moments"),
        (OneCoin, "all chains accepted when one is", "chains_are_independent"),
        (LogarithmOfRate, "acceptance_rate is a logarithm", "statistics"),
        (OldLp, "lp of the proposal, accepted or not", "statistics"),
        (HotSpins, "spin flips at another temperature", "binary_frequencies"),
        (ColdSpins, "spin flips with the ratio of the other sign", "binary_frequencies"),
    ]
]
