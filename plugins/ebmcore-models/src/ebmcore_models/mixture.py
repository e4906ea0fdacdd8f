"""A mixture of Gaussians, each with one standard deviation for all directions."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor, nn
from typing_extensions import Doc

from ebmcore.errors import InputError, SettingsError
from ebmcore_models.exact import check_temperature, generator, normals

_LANES = 64


class Mixture(nn.Module):
    """K Gaussian components in d dimensions.

        U(x) = -log sum_k p_k N(x; m_k, s_k^2 I),    dU/dx = sum_k r_k(x) (x - m_k) / s_k^2

    r_k(x) = p_k N(x; m_k, s_k^2 I) exp(U(x)) are the responsibilities: they sum to 1, and are computed
    with the largest exponent taken out, so that they do not underflow however far x is. The constants
    are kept: exp(-U) integrates to 1. U is +inf where |x - m|^2 / s^2 overflows the dtype.

    A chain's bits do not depend on the chains beside it. A call takes memory for 2 n K d numbers. The
    buffers are float64 until the host, or you, cast the module to the dtype of x: `means` [K, d],
    `precisions` [K] (1/s^2) and `offsets` [K] (log p - d log s - d/2 log 2 pi).

    Args:
        means: Mean of each component.
        sds: Standard deviation of all components, or one each.
        proportions: Positive weight of each component, normalised to a sum of 1; equal if left out.

    Raises:
        SettingsError: No component or coordinate; lengths that differ; a number that is not finite,
            or not positive where it has to be.
    """

    means: Tensor
    precisions: Tensor
    offsets: Tensor

    def __init__(
        self,
        means: Annotated[list[list[float]], MinLen(1), Doc("mean of each component, as rows")],
        sds: Annotated[float | list[float], Doc("> 0: standard deviation of all components, or one each")] = 1.0,
        proportions: Annotated[
            list[float] | None, Doc("> 0: weight of each component, normalised to a sum of 1; equal if left out")
        ] = None,
    ) -> None:
        super().__init__()
        rows = _matrix(means)
        count, d = rows.shape
        self.shape = (d,)
        s = _positive("sds", sds, count)
        p = _positive("proportions", 1.0 if proportions is None else proportions, count)
        # float64 even where the run is float32: the host casts buffers to the run's dtype.
        self.register_buffer("means", rows)
        self.register_buffer("precisions", s**-2)
        self.register_buffer("offsets", (p / p.sum()).log() - d * s.log() - 0.5 * d * math.log(2.0 * math.pi))

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, d]."""
        return self._components(x)[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, d] at x [n, d]."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, d] at x [n, d]."""
        u, relative, total, delta = self._components(x)
        pull = relative.mul_(self.precisions[:, None]).div_(total)
        return u, delta.mul_(pull).sum(1)[:, : len(x)].t().contiguous()

    def exact_moments(self, temperature: float = 1.0) -> dict[str, np.ndarray]:
        """Return the moments under exp(-U), float64, of the buffers as they stand.

        Args:
            temperature: 1: at another temperature exp(-U/T) is no mixture of Gaussians.

        Returns:
            "mean" [d], "variance" [d] and "covariance" [d, d].

        Raises:
            InputError: `temperature` is not 1.
        """
        _check_untempered(temperature)
        p, means, variances = self._parts()
        mean = p @ means
        apart = means - mean
        covariance = (apart.T * p) @ apart + (p @ variances) * torch.eye(len(mean), dtype=torch.float64)
        return {
            "mean": mean.numpy(),
            "variance": covariance.diagonal().numpy().copy(),
            "covariance": covariance.numpy(),
        }

    def exact_draws(self, n: int, *, temperature: float = 1.0, seed: int) -> Tensor:
        """Return n independent draws from exp(-U), [n, d], float64, on the CPU.

        Args:
            n: Number of draws.
            temperature: 1, as in `exact_moments`.
            seed: Seed of a generator of their own.

        Raises:
            InputError: An argument is out of range.
        """
        _check_untempered(temperature)
        p, means, variances = self._parts()
        source = generator(seed)
        z = normals(n, self.shape, source)
        component = torch.multinomial(p, n, replacement=True, generator=source)
        return z.mul_(variances.sqrt()[component, None]).add_(means[component])

    def _components(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Chains on the last axis: in the given layout every inner loop would be over d, often 2, and 3 to 6 times
        # slower. There a ragged end would round otherwise than the same chains in another batch: lanes fill it up.
        n, d = x.shape
        lanes = x.new_zeros(d, -(-n // _LANES) * _LANES)
        lanes[:, :n] = x.t()
        # |x - m|^2 is not multiplied out: that loses digits where x and m are large, and rounds with the batch.
        delta = lanes[:, None, :] - self.means.t()[:, :, None]
        squares = (delta * delta).sum(0)
        exponents = torch.addcmul(self.offsets[:, None], squares, self.precisions[:, None], value=-0.5)
        # The bound keeps -inf - -inf, which is NaN, out.
        largest = exponents.amax(0).clamp_min(torch.finfo(x.dtype).min)
        relative = (exponents - largest).exp_()
        total = relative.sum(0)
        return -(largest + total.log())[:n], relative, total, delta

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return proportions [K], means [K, d] and variances [K], float64, on the CPU."""
        means = self.means.double().cpu()
        variances = 1.0 / self.precisions.double().cpu()
        logs = self.offsets.double().cpu() + 0.5 * means.shape[1] * variances.log()
        return logs.softmax(0), means, variances


def _matrix(means: list[list[float]]) -> Tensor:
    try:
        rows = torch.tensor(means, dtype=torch.float64)
    except ValueError as error:
        raise SettingsError(f"`means` must have rows of one length; got {means}. Give one mean a row.") from error
    if rows.ndim != 2 or not rows.numel():
        raise SettingsError(
            f"`means` must have a row for each component, each with a coordinate or more; got {means}. "
            "Give rows such as [[-2.0, 0.0], [2.0, 0.0]]."
        )
    if not rows.isfinite().all():
        raise SettingsError(f"`means` must be finite; got {means}. Replace inf and nan.")
    return rows


def _positive(name: str, value: float | list[float], count: int) -> Tensor:
    given = torch.tensor(value, dtype=torch.float64)
    if isinstance(value, list) and len(value) != count:
        raise SettingsError(
            f"`{name}` must have one entry a component, {count} as in `means`; got {len(value)}. "
            "Give both the same length."
        )
    if not (given.isfinite() & (given > 0)).all():
        raise SettingsError(f"`{name}` must be > 0 and finite; got {value}. Give positive numbers.")
    return given.expand(count).clone()


def _check_untempered(temperature: float) -> None:
    check_temperature(temperature)
    if temperature != 1:
        raise InputError(
            f"`temperature` must be 1 for what is exact of a mixture; got {temperature}. "
            "Leave it out: exp(-U/T) is no mixture of Gaussians."
        )
