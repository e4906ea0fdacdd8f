"""The noise that a sampler sees: it counts the calls of a step, keeps the chains' ids, and asks a backend for numbers.

What a number depends on is in `ebmcore.reference`. Calls are numbered from 0 within each step
and stream; two streams never meet, so a run may use one for its steps and another for its
starting states at the same t.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Final, NoReturn

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.errors import InputError, RunError, SamplerError
from ebmcore.protocols import EnergyFunction, HasStridingNoise, Key, NoiseBackend

Stride = Callable[[Tensor, int], Tensor]

STEP: Final = 0
INIT: Final = 1
TUNE: Final = 2
MINIBATCH: Final = 3

_SEEDS = 2**63
_STEPS = 2**32
_CALLS = 2**24


class CounterNoise:
    """Noise of n chains at one step (see `ebmcore.protocols.Noise` for the methods that a sampler calls).

    Args:
        backend: What makes the numbers.
        seed: The run's seed, in [0, 2**63).
        chains: The n ids, a range or an int64 tensor [n].
        dtype: The positions' dtype, for `uniform_per_chain` and `shared`: float32 or float64.
        device: The positions' device.
        stream: STEP, INIT, TUNE or MINIBATCH.
        t: Index of the step since the chains began, below 2**32.
        step: Index of the step in its stage, negative in the warmup.
        steps: Number of steps of the stage.

    Raises:
        InputError: The seed is out of range.
        RunError: `t` is out of range; later, when a step makes more than 2**24 calls.
    """

    __slots__ = ("_backend", "_chains", "_clock", "_device", "_dtype", "_n", "_seed", "_stream", "steps")

    def __init__(
        self,
        backend: NoiseBackend,
        seed: int,
        chains: range | Tensor,
        *,
        dtype: torch.dtype,
        device: torch.device,
        stream: int,
        t: int,
        step: int,
        steps: int,
    ) -> None:
        seed = check_seed(seed)
        self._backend, self._dtype, self._device = backend, dtype, device
        self._seed = (seed & 0xFFFFFFFF, seed >> 32)
        self._chains = chains if isinstance(chains, range) else chains.to(device, torch.int64)
        self._n = len(chains)
        self._stream = stream << 24
        self._clock = _Clock()
        self.steps = steps
        self.advance(t, step)

    @property
    def t(self) -> int:
        return self._clock.t

    @property
    def step(self) -> int:
        return self._clock.step

    @property
    def chains(self) -> range | Tensor:
        """The ids of the chains, in the order of their rows."""
        return self._chains

    def advance(self, t: int, step: int) -> None:
        """Go to another step, here and in every view: set `t` and `step`, and count calls from 0 again.

        Raises:
            RunError: `t` is not in [0, 2**32).
        """
        if not 0 <= t < _STEPS:
            raise RunError(f"`t` must be in [0, 2**32); got {t}. Start a new run from these positions.")
        clock = self._clock
        clock.t, clock.step, clock.call = t, step, 0

    def perturb_(
        self,
        x: Tensor,
        scale: float | Tensor,
        /,
        *,
        decay: float | Tensor = 1.0,
        drift: Tensor | None = None,
        drift_scale: float | Tensor = 0.0,
    ) -> Tensor:
        shape = self._check(x)
        if scale.__class__ is not float:
            self._check_factor("scale", scale, x)
        if decay.__class__ is not float:
            self._check_factor("decay", decay, x)
        if drift is not None:
            if drift.shape != shape or drift.dtype is not x.dtype or drift is x:
                _refuse_drift(drift, x)
            if drift_scale.__class__ is not float:
                self._check_factor("drift_scale", drift_scale, x)
        return self._backend.perturb_(
            x, scale, self._key(), self._chains, decay=decay, drift=drift, drift_scale=drift_scale
        )

    def stride(
        self, energy: EnergyFunction, scale: float, /, *, decay: float = 1.0, drift_scale: float = 0.0
    ) -> Stride | None:
        backend = self._backend
        if not isinstance(energy, BoundEnergy) or energy.fast is None or not isinstance(backend, HasStridingNoise):
            return None
        # That gradient is of U: the temperature goes into its factor.
        factor = drift_scale / energy.temperature
        taken = backend.stride(energy.fast, self._chains, scale, decay=decay, drift_scale=factor)
        if taken is None:
            return None

        def stride(x: Tensor, count: int) -> Tensor:
            self._check(x)
            key = self._key()
            self.advance(self.t + count - 1, self.step + count - 1)
            return taken(x, key, count)

        return stride

    def normal(self, like: Tensor, /) -> Tensor:
        self._check(like)
        out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return self._backend.fill_(out, "normal", self._key(), self._chains)

    def uniform(self, like: Tensor, /) -> Tensor:
        self._check(like)
        out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        return self._backend.fill_(out, "uniform", self._key(), self._chains)

    def uniform_per_chain(self) -> Tensor:
        out = torch.empty(self._n, dtype=self._dtype, device=self._device)
        return self._backend.fill_(out, "uniform", self._key(), self._chains)

    def shared(self, k: int, /) -> Tensor:
        # Those of chain 0, whoever asks. The call's number is this call's own: chain 0 uses them for nothing else.
        out = torch.empty((1, k), dtype=self._dtype, device=self._device)
        return self._backend.fill_(out, "uniform", self._key(), range(1))[0]

    def select(self, index: Tensor, /) -> CounterNoise:
        return self._view(self._ids()[index])

    def expand(self, k: int, /) -> CounterNoise:
        chains = self._chains
        if isinstance(chains, range) and chains.step == 1:
            return self._view(range(chains.start * k, chains.stop * k))
        return self._view((self._ids().unsqueeze(1) * k + torch.arange(k, device=self._device)).view(-1))

    def renumber(self, chains: range, /) -> CounterNoise:
        """Return the noise of other chains at the same step; calls are counted together."""
        return self._view(chains)

    def fork(self, stream: int, /) -> CounterNoise:
        """Return the noise of the same chains and step in another stream, which counts calls and advances by itself."""
        noise = self._view(self._chains)
        noise._stream, noise._clock = stream << 24, _Clock()
        noise.advance(self.t, self.step)
        return noise

    def _view(self, chains: range | Tensor) -> CounterNoise:
        view = copy.copy(self)
        view._chains, view._n = chains, len(chains)
        return view

    def _ids(self) -> Tensor:
        chains = self._chains
        if isinstance(chains, range):
            return torch.arange(chains.start, chains.stop, chains.step, device=self._device)
        return chains

    def _key(self) -> Key:
        clock = self._clock
        call = clock.call
        if call >= _CALLS:
            raise RunError(f"calls of noise in a step must be < 2**24; got one more at t {clock.t}. Draw more a call.")
        clock.call = call + 1
        return Key(self._seed, clock.t, self._stream | call)

    def _check(self, x: Tensor) -> torch.Size:
        # One look at the shape, here and by the caller: `x.size(0)` alone costs twice as much.
        dtype, shape = x.dtype, x.shape
        if (dtype is not torch.float32 and dtype is not torch.float64) or not shape or shape[0] != self._n:
            raise SamplerError(
                f"what noise is asked for must be float32 or float64 with one row a chain ({self._n}); "
                f"got {_describe(x)}. Pass a tensor made from the state's position."
            )
        return shape

    def _check_factor(self, name: str, factor: float | Tensor, x: Tensor) -> None:
        if isinstance(factor, Tensor):
            if factor.shape != (self._n,) and (factor.ndim != x.ndim or factor.shape[0] not in (1, self._n)):
                raise SamplerError(
                    f"`{name}` of perturb_ must be a number, one a chain [{self._n}], or of the rank of x "
                    f"{list(x.shape)}; got {_describe(factor)}. Reshape it, or take float() of a single number."
                )
        elif not isinstance(factor, (float, int)):
            raise SamplerError(
                f"`{name}` of perturb_ must be a number or a tensor; got {type(factor).__name__}. Use float() of it."
            )


def check_seed(seed: int) -> int:
    """Return `seed` as an int in [0, 2**63).

    Raises:
        InputError: It is not an integer (a bool is none), or out of range.
    """
    try:
        value = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < _SEEDS:
        raise InputError(f"`seed` must be an integer in [0, 2**63); got {seed!r}. Choose one such as 7.")
    return value


class _Clock:
    """When it is: shared by a noise and its views."""

    __slots__ = ("call", "step", "t")
    t: int
    step: int
    call: int


def _refuse_drift(drift: Tensor, x: Tensor) -> NoReturn:
    got = "x itself" if drift is x else _describe(drift)
    raise SamplerError(
        f"`drift` of perturb_ must be a tensor of its own, {_describe(x)} as x is; got {got}. "
        "Pass the gradient at x, with no other shape or dtype."
    )


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
