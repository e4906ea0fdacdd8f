"""The Metropolis-adjusted Langevin algorithm.

    x' = x - step_size * g + sqrt(2 * step_size) * z,    z ~ N(0, 1),    g = grad U(x)/T
    accepted with probability min(1, exp(r)),    r = (U(x) - U(x'))/T + log q(x | x') - log q(x' | x)

where q(. | x) is the normal law of the proposal. Besag, in the discussion of Grenander and
Miller, "Representations of knowledge in complex systems", JRSS B 56 (1994); named and analysed
by Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
approximations", Bernoulli 2 (1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ebmcore.protocols import EnergyFunction, Noise, Schedule
from ebmcore_langevin.step_size import step_size_at

DIVERGING = -1000.0
"""A log ratio below this is a proposal that went wrong, not one that was unlikely."""


class MALAState(NamedTuple):
    """Where the chains are, with the energy there: one evaluation a step."""

    position: Tensor
    """[n, *shape], float32 or float64."""
    value: Tensor
    """U/T [n] at `position`."""
    gradient: Tensor
    """dU/dx / T [n, *shape] at `position`."""


class MALAInfo(NamedTuple):
    """What a step says of itself, each [n]."""

    acceptance_rate: Tensor
    """Probability with which the proposal was accepted, in the positions' dtype."""
    lp: Tensor
    """-U/T where the chain is after the step."""
    diverging: Tensor
    """True where the log ratio was NaN or below -1000, or the proposal's energy not finite."""


@dataclass(frozen=True)
class MALA:
    """Metropolis-adjusted Langevin: ULA's move as a proposal; what is accepted has exactly the law exp(-U/T).

    Any `step_size` gives the right law; too long a step is rejected, too short a one moves little. An
    acceptance rate of 0.574 is the most efficient in many dimensions (Roberts and Rosenthal, "Optimal
    scaling of discrete approximations to Langevin diffusions", JRSS B 60, 1998). The log ratio is
    computed without the normal densities, whose squares would cancel:

        r = (U - U')/T + sum_i (g + g')_i * (x' - x - step_size / 2 * (g' - g))_i / 2

    A proposal whose energy is NaN or infinite, or whose log ratio is NaN, is rejected and marked
    `diverging`; a rejected chain keeps its bits. So an energy of +inf outside a region confines the
    chains to it. A chain that begins where U is NaN stays there; and where U grows faster than a
    quadratic (the double well), one that begins far out may have all its proposals overshoot and be
    rejected: begin inside (`init = "uniform"`), or with a stage of short steps.

    With a schedule the step size may differ from step to step; each step leaves exp(-U/T) as it is.
    The value and gradient of the last step are kept, so U must be the same function at every
    step: not one with minibatches.

    Every step makes two calls of `noise` and one of the energy.
    """

    step_size: float | Schedule = field(
        metadata={"gt": 0, "description": "length of a step: the factor on the gradient of U/T; a number or a schedule"}
    )

    needs: ClassVar[frozenset[Literal["value", "gradient"]]] = frozenset({"value", "gradient"})
    law: ClassVar[Literal["reversible"]] = "reversible"

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> MALAState:
        return MALAState(position, *energy.value_and_gradient(position))

    def step(self, energy: EnergyFunction, state: MALAState, noise: Noise) -> tuple[MALAState, MALAInfo]:
        x, u, g = state
        length = step_size_at(self.step_size, noise)
        proposal = noise.perturb_(x.clone(), math.sqrt(2.0 * length), drift=g, drift_scale=-length)
        coin = noise.uniform_per_chain()
        u_new, g_new = energy.value_and_gradient(proposal)
        ratio = _log_ratio(x, u, g, proposal, u_new, g_new, length)
        rate = ratio.clamp(max=0.0).exp_().nan_to_num_(nan=0.0)
        accepted = coin < rate
        # Written out: a condition that is broadcast makes `where` three times slower in two dimensions.
        each = accepted.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(x).contiguous()
        after = MALAState(torch.where(each, proposal, x), torch.where(accepted, u_new, u), torch.where(each, g_new, g))
        # A NaN is not >=.
        return after, MALAInfo(rate, -after.value, ~(ratio >= DIVERGING))


def _log_ratio(x: Tensor, u: Tensor, g: Tensor, x_new: Tensor, u_new: Tensor, g_new: Tensor, length: float) -> Tensor:
    """Return r [n], NaN where the proposal's energy is not finite."""
    moved = x_new - x
    terms = moved.sub_(g_new - g, alpha=0.5 * length).mul_(g + g_new)
    # Row by row: with the product apart from the sum, the bits do not depend on how many chains there are.
    rows = terms.reshape(len(terms), math.prod(terms.shape[1:]))
    ratio = rows.sum(1).mul_(0.5).add_(u - u_new)
    return ratio.masked_fill_(~u_new.isfinite(), math.nan)
