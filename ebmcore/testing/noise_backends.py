"""What every noise backend must do: the numbers of the definition, for any chains, in any cut, in place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ebmcore.protocols import Key
from ebmcore.reference import Reference
from ebmcore.testing.conformance import NotApplicable, name_of, require

ULPS = {torch.float32: 4, torch.float64: 16}
"""So many units in the last place a normal may be off: of 1 where it is smaller, for the cosine's own rounding."""

Kind = Literal["normal", "uniform"]


def _device(backend: Any) -> torch.device:
    for kind in backend.devices:
        if kind == "cpu" or (kind == "cuda" and torch.cuda.is_available()):
            return torch.device(kind)
    raise NotApplicable(f"this machine has none of its devices ({', '.join(backend.devices)})")


def _key(seed: int, t: int = 3, call: int = 2) -> Key:
    return Key((seed & 0xFFFFFFFF, seed >> 32), t, call)


def _cases(device: torch.device) -> Iterator[tuple[str, tuple[int, ...], range | Tensor]]:
    yield "a vector of even length", (70, 4), range(70)
    yield "a vector of odd length, from an odd chain on", (70, 3), range(5, 75)
    yield "a scalar", (70,), range(70)
    yield "an image", (9, 1, 5, 5), range(64, 73)
    yield "chains far out", (6, 3), range(2**33 + 1, 2**33 + 7)
    yield "chains by a tensor, with a repeat", (5, 3), torch.tensor([8, 3, 3, 0, 2**33], device=device)
    yield "one chain", (1, 1), range(7, 8)


def check_numbers(backend: Any, seed: int) -> None:
    """`fill_` gives the definition's numbers: uniforms to the bit, normals within 4 units in the last place."""
    device, truth = _device(backend), Reference()
    for dtype in (torch.float32, torch.float64):
        for what, shape, chains in _cases(device):
            kinds: tuple[Kind, ...] = ("uniform", "normal")
            for kind in kinds:
                out = torch.full(shape, 9.0, dtype=dtype, device=device)
                back = backend.fill_(out, kind, _key(seed), chains)
                expected = truth.fill_(torch.empty_like(out), kind, _key(seed), chains)
                unit = torch.finfo(dtype).eps * expected.abs().clamp(min=1.0)
                off = float(((out - expected).abs() / unit).max())
                require(
                    back is out and off <= (0 if kind == "uniform" else ULPS[dtype]),
                    f"{name_of(backend)}.fill_ must fill `out` with the {kind}s of the definition, for {what}",
                    f"numbers that are {off:.3g} units in the last place off ({dtype})"
                    if back is out
                    else "another tensor",
                    "See ebmcore.reference: key, pair, lane and words",
                )


def check_keys(backend: Any, seed: int) -> None:
    """Seed, step, call and stream each count, at their largest too, and a step may be a tensor."""
    device, truth = _device(backend), Reference()
    keys = [
        _key(seed),
        _key(2**63 - 1, 2**32 - 1, 2**32 - 1),
        _key(seed, 0, 1 << 24),
        Key((5, 0), torch.tensor(3, device=device), 2),
    ]
    for key in keys:
        out = torch.empty(66, 3, device=device)
        backend.fill_(out, "uniform", key, range(66))
        require(
            torch.equal(out, truth.fill_(torch.empty_like(out), "uniform", key, range(66))),
            f"{name_of(backend)} must take every key",
            f"other numbers for {key}",
            "Words are 32 bits without a sign, low first; t may be a tensor on the device",
        )


def check_perturb(backend: Any, seed: int) -> None:
    """`perturb_` is decay*x + drift_scale*drift + scale*z in place, with factors of every form."""
    device, truth = _device(backend), Reference()
    n, shape = 67, (67, 3)
    each = torch.linspace(0.5, 1.5, n, device=device)
    for dtype in (torch.float32, torch.float64):
        rows, full = each.to(dtype), torch.linspace(0.5, 1.5, 3, device=device).to(dtype)[None]
        for scale, decay, drift_scale in ((0.3, 1.0, -0.1), (rows, 0.9, rows), (full, rows, -0.1), (0.0, full, 0.2)):
            start = truth.fill_(torch.empty(shape, dtype=dtype, device=device), "normal", _key(seed, 9), range(n))
            drift = start.flip(0).contiguous()
            held = drift.clone()
            x, y = start.clone(), start.clone()
            back = backend.perturb_(x, scale, _key(seed), range(n), decay=decay, drift=drift, drift_scale=drift_scale)
            truth.perturb_(y, scale, _key(seed), range(n), decay=decay, drift=drift, drift_scale=drift_scale)
            off = float((x - y).abs().max())
            require(
                back is x and torch.equal(drift, held) and off <= 16 * torch.finfo(dtype).eps,
                f"{name_of(backend)}.perturb_ must overwrite x with decay*x + drift_scale*drift + scale*z, and x alone",
                f"a difference of {off:.3g}"
                if back is x and torch.equal(drift, held)
                else "another tensor, or a drift that was overwritten",
                "A factor is a number, [n], or of the rank of x",
            )
        x = truth.fill_(torch.empty(shape, dtype=dtype, device=device), "normal", _key(seed, 9), range(n))
        y = x.clone()
        backend.perturb_(x, 0.5, _key(seed), range(n))
        truth.perturb_(y, 0.5, _key(seed), range(n))
        require(
            float((x - y).abs().max()) <= 16 * torch.finfo(dtype).eps,
            f"{name_of(backend)}.perturb_ must work without a drift",
            f"a difference of {float((x - y).abs().max()):.3g}",
            "The defaults are decay = 1 and no drift",
        )


def check_split(backend: Any, seed: int) -> None:
    """Chunks give the bits of the whole, in `fill_` and in `perturb_`, and memory that is not contiguous works."""
    device = _device(backend)
    whole = torch.empty(201, 3, device=device)
    backend.fill_(whole, "normal", _key(seed), range(201))
    moved = torch.ones(201, 3, device=device)
    drift = torch.linspace(-1, 1, 603, device=device).reshape(201, 3)
    start = moved.clone()
    backend.perturb_(moved, 0.7, _key(seed), range(201), drift=drift, drift_scale=0.3)
    for lo, hi in ((0, 64), (64, 192), (192, 201)):
        part = torch.empty(hi - lo, 3, device=device)
        backend.fill_(part, "normal", _key(seed), range(lo, hi))
        x = start[lo:hi].clone()
        backend.perturb_(x, 0.7, _key(seed), range(lo, hi), drift=drift[lo:hi].contiguous(), drift_scale=0.3)
        require(
            torch.equal(part, whole[lo:hi]) and torch.equal(x, moved[lo:hi]),
            f"{name_of(backend)} must give the same bits for the chains {lo} ... {hi - 1} alone as in a batch of 201",
            "other bits",
            "A vector body and a scalar tail must round alike: no fast-math, explicit fma",
        )
    wide = torch.zeros(201, 6, device=device)
    backend.fill_(wide[:, ::2], "normal", _key(seed), range(201))
    require(
        torch.equal(wide[:, ::2], whole) and not bool(wide[:, 1::2].any()),
        f"{name_of(backend)}.fill_ must take an `out` of any strides",
        "other numbers, or numbers beside it",
        "Fill a contiguous tensor and copy it",
    )


def check_threads(backend: Any, seed: int) -> None:
    """Several threads at once get the same bits."""
    device = _device(backend)
    outs = [torch.empty(512, 3, device=device) for _ in range(4)]
    workers = [
        threading.Thread(target=backend.fill_, args=(out, "normal", _key(seed, t), range(512)))
        for t, out in enumerate(outs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for t, out in enumerate(outs):
        alone = backend.fill_(torch.empty_like(out), "normal", _key(seed, t), range(512))
        require(
            torch.equal(out, alone),
            f"{name_of(backend)} must give the same bits in several threads at once",
            "other bits than alone",
            "Keep no scratch memory in the backend",
        )


def check_global_randomness(backend: Any, seed: int) -> None:
    """Torch's own random state is left alone."""
    device = _device(backend)
    before = torch.get_rng_state()
    backend.fill_(torch.empty(64, 2, device=device), "normal", _key(seed), range(64))
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{name_of(backend)} must leave torch's random state alone",
        "a change of it",
        "Make the numbers from the key alone",
    )


CHECKS = (check_numbers, check_keys, check_perturb, check_split, check_threads, check_global_randomness)
