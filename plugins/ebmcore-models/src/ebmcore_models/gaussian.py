"""The Gaussian, diagonal or with a full covariance."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import Doc

from ebmcore.errors import SettingsError
from ebmcore_models.dot import dot
from ebmcore_models.exact import check_temperature, generator, normals


class Gaussian(nn.Module):
    """A Gaussian energy.

        U(x) = 1/2 (x - mean)^T P (x - mean),    dU/dx = P (x - mean),    P = covariance^-1

    Without `covariance` P is diagonal: every operation is elementwise, so that a chain's bits do
    not depend on the chains beside it; with it there is a matrix product, which rounds with its
    batch. Where neither a list nor `dim` says how many coordinates there are, positions have any
    shape; else they have shape (dim,). The buffers are float64 until the host, or you, cast the
    module to the dtype of x.

    Args:
        mean: One number for all coordinates, or one each.
        variance: One number for all coordinates, or one each; 1 if left out.
        covariance: A symmetric positive definite matrix, as rows, in place of `variance`.
        dim: Number of coordinates.

    Raises:
        SettingsError: `variance` beside `covariance`; lengths that differ; a number that is not
            finite; a variance that is not positive; a covariance that is not positive definite.
    """

    mean: Tensor
    precision: Tensor
    shape: tuple[int, ...]  # set where the number of coordinates is known, else absent

    def __init__(
        self,
        mean: Annotated[float | list[float], Doc("one number for all coordinates, or one each")] = 0.0,
        variance: Annotated[
            float | list[float] | None, Doc("> 0: one number for all coordinates, or one each; 1 if left out")
        ] = None,
        covariance: Annotated[
            list[list[float]] | None, Doc("a symmetric positive definite matrix, as rows, in place of variance")
        ] = None,
        dim: Annotated[int | None, Ge(1), Doc("number of coordinates; if left out, the lists', or any shape")] = None,
    ) -> None:
        super().__init__()
        if variance is not None and covariance is not None:
            raise SettingsError(
                f"`variance` must be left out beside `covariance`; got {variance}. "
                "Set one: the diagonal of `covariance` is the variance."
            )
        d = _size({"mean": mean, "variance": variance, "covariance": covariance}, dim)
        if d is not None:
            self.shape = (d,)
        # float64 even where the run is float32: the host casts buffers to the run's dtype, and a setting
        # that had been rounded to float32 here would stay rounded in a float64 run.
        self.register_buffer("mean", _vector("mean", mean, d))
        if covariance is None:
            spread = _vector("variance", 1.0 if variance is None else variance, d)
            self.register_buffer("precision", 1.0 / _positive(spread))
        else:
            self.register_buffer("precision", _inverse(_finite("covariance", covariance)))

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, *shape]."""
        return self.value_and_gradient(x)[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape] at x [n, *shape]."""
        delta = x - self.mean
        return delta @ self.precision if self.precision.ndim == 2 else delta.mul_(self.precision)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape] at x [n, *shape]."""
        delta = x - self.mean
        gradient = delta @ self.precision if self.precision.ndim == 2 else delta * self.precision
        return dot(delta, gradient).mul_(0.5), gradient

    def exact_moments(self, temperature: float = 1.0) -> dict[str, np.ndarray]:
        """Return the moments under exp(-U/T), float64, of the buffers as they stand.

        Args:
            temperature: T > 0.

        Returns:
            "mean" and "variance", [dim], or [] where the model takes any shape; and "covariance"
            [dim, dim] where the model was made with one (a diagonal one of 10,000 coordinates would take 800 MB).

        Raises:
            InputError: `temperature` is not positive.
        """
        check_temperature(temperature)
        mean = self.mean.double().cpu().numpy().copy()
        precision = self.precision.double().cpu().numpy()
        if precision.ndim < 2:
            return {"mean": mean, "variance": temperature / precision}
        covariance = temperature * np.linalg.inv(precision)
        return {"mean": mean, "variance": np.diagonal(covariance).copy(), "covariance": covariance}

    def exact_draws(self, n: int, *, temperature: float = 1.0, seed: int) -> Tensor:
        """Return n independent draws from exp(-U/T), [n, dim], float64, on the CPU, of the buffers as they stand.

        Args:
            n: Number of draws.
            temperature: T > 0.
            seed: Seed of a generator of their own.

        Raises:
            InputError: An argument is out of range, or the model takes any shape.
        """
        check_temperature(temperature)
        z = normals(n, getattr(self, "shape", None), generator(seed)).mul_(math.sqrt(temperature))
        mean, precision = self.mean.double().cpu(), self.precision.double().cpu()
        if precision.ndim < 2:
            return z.mul_(precision.rsqrt()).add_(mean)
        # P = C C^T, so that the covariance of C^-T z is P^-1; rows of z are solved from the right.
        factor = torch.linalg.cholesky(precision)
        centred: Tensor = torch.linalg.solve_triangular(factor, z, upper=False, left=False)
        return centred.add_(mean)


def _size(settings: dict[str, float | list[float] | list[list[float]] | None], dim: int | None) -> int | None:
    sizes = {} if dim is None else {"dim": dim}
    sizes |= {name: len(value) for name, value in settings.items() if isinstance(value, list)}
    if not sizes:
        return None
    first, wanted = next(iter(sizes.items()))
    for name, size in sizes.items():
        if size != wanted:
            raise SettingsError(
                f"`{name}` must have one entry a coordinate, {wanted} as in `{first}`; got {size}. "
                "Give all of them the same length."
            )
    if wanted < 1:
        raise SettingsError(f"`{first}` must have at least one coordinate; got {wanted}. Leave it out for any shape.")
    return wanted


def _vector(name: str, value: float | list[float], d: int | None) -> Tensor:
    tensor = _finite(name, value)
    return tensor if d is None else tensor.expand(d).clone()


def _finite(name: str, value: float | list[float] | list[list[float]]) -> Tensor:
    try:
        tensor = torch.tensor(value, dtype=torch.float64)
    except ValueError as error:
        raise SettingsError(f"`{name}` must have rows of one length; got {value}. Give a square matrix.") from error
    if not tensor.isfinite().all():
        raise SettingsError(f"`{name}` must be finite; got {value}. Replace inf and nan.")
    return tensor


def _positive(variance: Tensor) -> Tensor:
    if not (variance > 0).all():
        raise SettingsError(f"`variance` must be > 0; got {float(variance.min())}. Give positive numbers.")
    return variance


def _inverse(covariance: Tensor) -> Tensor:
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise SettingsError(
            f"`covariance` must be square; got shape {list(covariance.shape)}. Give as many entries a row as rows."
        )
    # A matrix computed elsewhere may be symmetric up to its rounding alone.
    if not torch.allclose(covariance, covariance.T, rtol=1e-9, atol=1e-12 * float(covariance.abs().max())):
        i, j = divmod(int((covariance - covariance.T).abs().argmax()), len(covariance))
        raise SettingsError(
            f"`covariance` must be symmetric; got {covariance[i, j]} in row {i}, column {j} and {covariance[j, i]} "
            "across the diagonal. Make them equal."
        )
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        smallest = float(torch.linalg.eigvalsh(covariance).min())
        raise SettingsError(
            f"`covariance` must be positive definite; got a smallest eigenvalue of {smallest:.3g}. "
            "Check its entries, or add a small number to the diagonal."
        )
    precision = torch.cholesky_inverse(factor)
    return (precision + precision.T) / 2
