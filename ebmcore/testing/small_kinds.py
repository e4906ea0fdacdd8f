"""What schedules, gradient backends and observers must do."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ebmcore.energy import BoundEnergy
from ebmcore.observers import Observers
from ebmcore.protocols import Chunk, Receipt, RunInfo
from ebmcore.testing.conformance import NotApplicable, name_of, require
from ebmcore.testing.making import noise
from ebmcore.testing.targets import Gaussian

TOLERANCE = 1e-3


def check_schedule_values(schedule: Any, seed: int) -> None:
    """At every step, warmup included, a schedule is a finite number, and the same one again."""
    for steps in (1, 2, 100):
        for step in (*range(-3, 0), *range(0, steps, max(1, steps // 10)), steps - 1):
            value, again = schedule(step, steps), schedule(step, steps)
            require(
                isinstance(value, int | float) and math.isfinite(value) and value == again,
                f"{name_of(schedule)} must be a finite number at each step, and the same one again",
                f"{value!r}, then {again!r}, at step {step} of {steps}",
                "Compute it from (step, steps) alone; warmup steps are negative",
            )


def _energies() -> list[tuple[Any, tuple[int, ...]]]:
    source = torch.Generator().manual_seed(1)
    layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    with torch.no_grad():
        for weights in layers.parameters():
            weights.copy_(torch.randn(weights.shape, generator=source))
    return [(layers, (3,)), (lambda x: x.cos().flatten(1).sum(1), (1, 4, 4))]


def check_gradient_agrees(backend: Any, seed: int) -> None:
    """What `build` makes gives U and dU/dx of autograd, in tensors of its own; or it is None."""
    taken = 0
    for model, shape in _energies():
        for dtype in (torch.float32, torch.float64):
            energy = model.to(dtype) if isinstance(model, nn.Module) else model
            fast: Callable[..., Any] | None = backend.build(energy, shape, dtype, torch.device("cpu"))
            if fast is None:
                continue
            taken += 1
            for n in (3, 64, 70):
                x = noise(seed, n, dtype=dtype).normal(torch.empty((n, *shape), dtype=dtype))
                before = x.clone()
                u, g = fast(x)
                bound = BoundEnergy(energy, shape=shape, dtype=dtype).by_autograd()
                close = torch.allclose(u, bound.value(x), rtol=TOLERANCE, atol=TOLERANCE) and torch.allclose(
                    g, bound.gradient(x), rtol=TOLERANCE, atol=TOLERANCE
                )
                require(
                    close and u.dtype is dtype and g.dtype is dtype and torch.equal(x, before),
                    f"{name_of(backend)} must give autograd's value and gradient, in the dtype of x, and leave x alone",
                    f"other ones for {name_of(model)} with {n} chains in {dtype}",
                    "Return None from `build` for an energy that is not yours",
                )
    if not taken:
        raise NotApplicable("it takes none of the kit's energies on a CPU")


def check_gradient_is_elementwise(backend: Any, seed: int) -> None:
    """A chain's numbers are close in any batch, ragged ones too."""
    for model, shape in _energies():
        fast = backend.build(model, shape, torch.float32, torch.device("cpu"))
        if fast is None:
            continue
        x = noise(seed, 70).normal(torch.empty((70, *shape)))
        whole, part = fast(x)[1].clone(), fast(x[64:].contiguous())[1]
        require(
            torch.allclose(whole[64:], part, rtol=TOLERANCE, atol=TOLERANCE),
            f"{name_of(backend)} must not let chains influence each other",
            f"another gradient of {name_of(model)} for chains 64 ... 69 alone",
            "Reduce over the axes of one position only",
        )


RUN = RunInfo("check", None, 128, 2, 10, 2, ("cpu",), 7)


def check_observer_hears(observer: Any, seed: int) -> None:
    """An observer implements an event of ebmcore, with arguments that the event has."""
    Observers([observer])


def check_observer_takes_every_event(observer: Any, seed: int) -> None:
    """Each event can be sent in the order of a run, from another thread too, and raises nothing."""
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import ebmcore as ebm
    from ebmcore.testing.own import Step, Tray

    faults: list[BaseException] = []
    with tempfile.TemporaryDirectory() as folder:
        result = ebm.sample(
            Gaussian(),
            Step(),
            chains=128,
            steps=10,
            draws=2,
            seed=seed,
            executor={"use": "ebmcore.executors.serial:Serial"},
            noise="reference",
            writers=[Tray()],
            out=f"{folder}/run",
            progress=False,
        )
        run = replace(RUN, path=Path(folder) / "run")
        chunk = Chunk(0, 64, 0, 10)
        events: list[tuple[str, dict[str, Any]]] = [
            ("ebmcore_run_started", {}),
            ("ebmcore_progress", {"chunk": chunk, "step": 5, "stats": {"acceptance_rate": 0.6}}),
            ("ebmcore_progress", {"chunk": chunk, "step": 10, "stats": {}}),
            ("ebmcore_chunk_done", {"chunk": chunk, "receipt": Receipt(chunk, "cpu", 0.1)}),
            ("ebmcore_run_finished", {"result": result}),
        ]

        def send() -> None:
            for name, arguments in events:
                try:
                    _send(observer, name, {"run": run, **arguments})
                except BaseException as error:  # handed to the checking thread
                    faults.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        if not faults:
            _send(observer, "ebmcore_run_failed", {"run": run, "error": RuntimeError("a failure")})
    if faults:
        raise faults[0]


def _send(observer: Any, name: str, arguments: dict[str, Any]) -> None:
    """Call one event without the guard that a run has."""
    import inspect

    method = getattr(observer, name, None)
    if method is not None and hasattr(method, "ebmcore_impl"):
        wanted = inspect.signature(method).parameters
        method(**{key: value for key, value in arguments.items() if key in wanted})


SCHEDULES = (check_schedule_values,)
GRADIENTS = (check_gradient_agrees, check_gradient_is_elementwise)
OBSERVERS = (check_observer_hears, check_observer_takes_every_event)
