"""Sampling inside a training loop: the engine's one loop, called again and again on the caller's positions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ebmcore.backends import choose_noise
from ebmcore.devices import cpu_workers, resolve_devices, torch_device
from ebmcore.energy import BoundEnergy, frozen, place, promoted
from ebmcore.energy_checks import check_mode
from ebmcore.engine import advance
from ebmcore.errors import InputError
from ebmcore.folding import Folder, folds
from ebmcore.noise import INIT, CounterNoise, check_seed
from ebmcore.parts import as_table, build_part
from ebmcore.plan import grain_of, make_plan
from ebmcore.probe import check_first_step, needs
from ebmcore.protocols import Chunk, HasEnsembleSize, NoiseBackend, Sampler
from ebmcore.registry import default
from ebmcore.request import check_policy, check_temperature, whole
from ebmcore.strides import striding
from ebmcore.watched import WatchedGradient


@final
class Session:
    """Advances positions by some steps a call, with noise that never repeats.

    Each call of `run` begins with the sampler's `init` at the given positions, sees the energy's
    present weights, and leaves its mode, its `requires_grad` and its `.grad` alone.

    Args:
        energy: As in `ebm.sample`.
        sampler: As in `ebm.sample`.
        seed: 0 <= seed < 2**63; by default a random one.
        devices: `"auto"`: where the positions are, one worker a core on a CPU; else as in `ebm.sample`.
        first_chain: Id of the first row's chain, for its noise: processes of one training take ranges of their own.
        chunk_size: Chains that a worker runs at a time, rounded up to the grid of 64.
        temperature: T > 0.
        noise: Name of the noise backend.
        gradient: As in `ebm.sample`. A backend is compared with autograd again when weights have changed, and is used
            where the energy itself is called: not for a copy of it in another precision or on another device.
        on_nonfinite: As in `ebm.sample`; a chain that is held comes back where it was last looked through, at
            the latest where it began, and is marked in `stats["frozen"]`.
        shared: Keyword arguments of the energy that are the same for all chains.
        base: Folder that references such as `"./file.py:Name"` are relative to.

    Attributes:
        seed: The seed that repeats the session.
        t: Steps taken since the session began: the counter that keeps noise from repeating.
        stats: The last call's statistics by name, folded over its steps, each [n].

    Raises:
        InputError: An argument is wrong.
    """

    def __init__(
        self,
        energy: Any,
        sampler: Any,
        *,
        seed: int | None = None,
        devices: str | Sequence[str] = "auto",
        first_chain: int = 0,
        chunk_size: int | str = "auto",
        temperature: float = 1.0,
        noise: str = "auto",
        gradient: str = "auto",
        on_nonfinite: str = "raise",
        shared: Mapping[str, Tensor] | None = None,
        base: str | Path = ".",
    ) -> None:
        registry, folder, live = default(), Path(base), dict[str, Any]()
        self.seed = secrets.randbits(63) if seed is None else check_seed(seed)
        self.t = 0
        self.stats: Mapping[str, Tensor] = {}
        self._model = build_part("model", as_table("model", energy, "energy", live), live, registry, folder)[0]
        table = as_table("sampler", sampler, "sampler", live)
        self._sampler: Sampler[Any] = build_part("sampler", table, live, registry, folder)[0]
        self._noise, self._gradient, self._on_nonfinite = noise, gradient, check_policy(on_nonfinite)
        self._gradients: WatchedGradient | None = None
        self._bound: dict[str, BoundEnergy] = {}
        self._backend: NoiseBackend | None = None
        self._devices = None if devices == "auto" else resolve_devices(devices)
        self._first = whole("first_chain", first_chain, 0)
        self._size = None if chunk_size == "auto" else whole("chunk_size", chunk_size, 1)
        self._temperature = check_temperature(temperature)
        self._shared = dict(shared or {})
        ensemble = self._sampler.ensemble_size if isinstance(self._sampler, HasEnsembleSize) else 1
        self._grain = grain_of([ensemble], [])
        self._checked: tuple[object, ...] = ()
        self._pool: ThreadPoolExecutor | None = None

    def run(self, x: Tensor, steps: int, /, **condition: Tensor) -> Tensor:
        """Return where the chains at `x` [n, *shape] are after `steps` transitions; `x` stays as it is.

        Args:
            x: Positions, float32 or float64, one row a chain; their dtype is that of the sampling. In half precision
                they are taken as float32, and come back so.
            steps: Transitions a chain.
            condition: Keyword arguments of the energy with one row a chain.

        Returns:
            Positions of the shape, dtype and device of `x`, detached.

        Warns:
            EbmcoreWarning: `x` is in half precision.

        Raises:
            InputError: An argument is wrong.
            EnergyError: The energy breaks its contract.
            SamplerError: The sampler breaks its contract.
            NonFiniteError: A chain left the finite numbers.
        """
        steps = whole("steps", steps, 1)
        if isinstance(x, Tensor):
            x = promoted(x, "positions")
        self._check(x, condition)
        labels = self._labels(x)
        plan = make_plan(
            chains=len(x),
            steps=steps,
            grain=self._grain,
            workers=len(labels),
            devices=labels,
            chunk_size=self._size,
            position_bytes=x[0].numel() * x.element_size(),
        )
        with frozen(self._model), torch.no_grad():
            energies = {label: self._energy(x, label, condition) for label in plan.devices}
            if self._gradients is not None:
                self._gradients.look(energies[labels[0]], x)
                energies = {label: self._gradients.applied(energy) for label, energy in energies.items()}
            work = [(energies[labels[i % len(labels)]], x, chunk, steps) for i, chunk in enumerate(plan.chunks)]
            if len(work) == 1:
                parts = [self._advance(*work[0])]
            else:
                parts = list(self._workers(len(labels)).map(lambda args: self._advance(*args), work))
                # A worker's setting is also the default of threads to come.
                torch.set_num_threads(torch.get_num_threads())
        self.t += steps
        self.stats = {name: torch.cat([stats[name] for _, stats in parts]) for name in parts[0][1]}
        return (
            torch.cat([position.to(x.device) for position, _ in parts]) if len(parts) > 1 else parts[0][0].to(x.device)
        )

    def state_dict(self) -> dict[str, int]:
        """Return what continues the session: its seed, step counter and first chain."""
        return {"seed": self.seed, "t": self.t, "first_chain": self._first}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where another session was.

        Raises:
            InputError: `state` is not of `state_dict`.
        """
        if set(state) != {"seed", "t", "first_chain"}:
            raise InputError(
                f"a session's state must have seed, t and first_chain; got {', '.join(state) or 'nothing'}. "
                "Save it with Session.state_dict()."
            )
        self.seed, self.t = check_seed(state["seed"]), whole("t", state["t"], 0)
        self._first = whole("first_chain", state["first_chain"], 0)

    def _advance(self, energy: BoundEnergy, x: Tensor, chunk: Chunk, steps: int) -> tuple[Tensor, dict[str, Tensor]]:
        assert self._backend is not None
        noise = CounterNoise(
            self._backend,
            self.seed,
            range(self._first + chunk.lo, self._first + chunk.hi),
            dtype=energy.dtype,
            device=energy.device,
            stream=INIT,
            t=self.t,
            step=0,
            steps=steps,
        )
        folder: Folder | None = None

        def fold(step: int, state: tuple[Any, ...], info: tuple[Any, ...] | None) -> None:
            nonlocal folder
            if info is not None:
                folder = folder or Folder(folds(self._sampler, info))
                folder.add(info)

        with torch.no_grad():
            position = x[chunk.lo : chunk.hi].detach().to(energy.device, copy=True).contiguous()
            rows = energy.rows(chunk.lo, chunk.hi)
            last, frozen = advance(
                rows, self._sampler, position, noise, 0, steps, on_step=fold, on_nonfinite=self._on_nonfinite
            )
        stats = {} if folder is None else folder.take()
        return last, stats if frozen is None else {**stats, "frozen": frozen}

    def _energy(self, x: Tensor, label: str, condition: Mapping[str, Tensor]) -> BoundEnergy:
        device = torch_device(label)
        placed = place(self._model, device, x.dtype, own=label.startswith("cpu:"))
        if label not in self._bound or self._bound[label].model is not placed:
            self._bound[label] = BoundEnergy(
                placed,
                shape=tuple(x.shape[1:]),
                dtype=x.dtype,
                device=device,
                temperature=self._temperature,
                shared={name: value.to(device) for name, value in self._shared.items()},
            )
        return self._bound[label].conditioned(condition)

    def _labels(self, x: Tensor) -> tuple[str, ...]:
        if self._devices is not None:
            return self._devices
        return cpu_workers() if x.device.type == "cpu" else (str(x.device),)

    def _workers(self, count: int) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(count, "ebmcore-session", torch.set_num_threads, (1,))
        return self._pool

    def _check(self, x: Tensor, condition: Mapping[str, Tensor]) -> None:
        if not isinstance(x, Tensor) or x.ndim == 0 or len(x) == 0 or x.dtype not in (torch.float32, torch.float64):
            seen = f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"positions must be a float32 or float64 tensor [n, *shape], n > 0; got {seen}. Convert them."
            )
        for name, value in condition.items():
            if value.ndim == 0 or len(value) != len(x):
                raise InputError(
                    f"condition '{name}' must have one row a chain, here {len(x)}; got shape {list(value.shape)}. "
                    "Give what is the same for all chains as `shared` of the session."
                )
        check_mode(self._model)
        seen_now = (x.shape[1:], x.dtype, x.device, *condition)
        if seen_now != self._checked:
            name = choose_noise(self._noise, self._labels(x), x.dtype, default())
            self._backend = build_part("noise", {"use": name}, {}, default(), Path())[0]
            self._gradients = None
            self._bound.clear()
            with frozen(self._model):
                energy = self._energy(x, self._labels(x)[0], condition)
                check_first_step(energy, self._sampler, x, self._backend)
                if "gradient" in needs(self._sampler):
                    strides = striding([self._sampler], self._backend)
                    self._gradients = WatchedGradient(
                        self._gradient, energy, x.to(energy.device), default(), strides=strides
                    )
            self._checked = seen_now
