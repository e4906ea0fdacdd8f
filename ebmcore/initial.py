"""Where chains begin: a law, given positions, or a user's function; always a pure function of seed and chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ebmcore import rundir
from ebmcore.arrays import SUFFIXES, load_array
from ebmcore.energy import promoted
from ebmcore.errors import InputError
from ebmcore.protocols import Noise, Support
from ebmcore.registry.references import is_direct, load_direct
from ebmcore.registry.wording import near, quoted, reason_of
from ebmcore.stored import read_array, readers

LAWS = ("auto", "normal", "uniform")

InitFunction = Callable[[Tensor, Noise], Tensor]
"""(chain ids [n] int64, noise) -> positions [n, *shape]."""


@final
@dataclass(frozen=True)
class Start:
    """Starting positions of a run.

    `"normal"` is N(0, 1) and `"uniform"` uniform on [-1, 1), a coordinate each; `"auto"` is normal on the reals, fair
    coins for a binary support and uniform classes for a categorical one. Positions are multiplied by `scale`.
    With `repeat` K, chains K i ... K i + K - 1 begin at point i (superchains: Margossian et al. 2022).
    """

    source: str | Tensor | InitFunction
    scale: float = 1.0
    repeat: int = 1

    @property
    def points(self) -> Tensor | None:
        """Given positions [points, *shape], or None."""
        return self.source if isinstance(self.source, Tensor) else None

    def positions(self, lo: int, hi: int, first: int, like: Tensor, support: Support, noise: Noise) -> Tensor:
        """Return fresh starting positions [hi - lo, *shape] of the run's chains [lo, hi).

        Args:
            lo: First chain.
            hi: Past the last chain.
            first: Id of the run's chain 0, for functions.
            like: An empty tensor [n, *shape] of the wanted shape, dtype and device.
            support: The energy's.
            noise: The noise of the points of these chains, [lo // repeat, ceil(hi / repeat)), in the init stream.

        Raises:
            InputError: A function returned positions of another shape.
        """
        begin, end = point_range(lo, hi, self.repeat)
        wanted = like.new_empty((end - begin, *like.shape[1:]))
        points = self._points(begin, end, first, wanted, support, noise)
        if self.scale != 1.0:
            points = points * self.scale
        if self.repeat == 1:
            return points
        return points.repeat_interleave(self.repeat, 0)[lo - begin * self.repeat : hi - begin * self.repeat]

    def _points(self, begin: int, end: int, first: int, like: Tensor, support: Support, noise: Noise) -> Tensor:
        if isinstance(self.source, Tensor):
            return self.source[begin:end].to(device=like.device, dtype=like.dtype, copy=True).contiguous()
        if not isinstance(self.source, str):
            return _called(self.source, torch.arange(first + begin, first + end, device=like.device), like, noise)
        if self.source == "uniform":
            return noise.uniform(like).mul_(2.0).sub_(1.0)
        if self.source == "normal" or support == "real":
            return noise.normal(like)
        if support == "binary":
            return (noise.uniform(like) < 0.5).to(like.dtype)
        chosen = (noise.uniform(like[..., 0].contiguous()) * like.shape[-1]).long()
        return torch.nn.functional.one_hot(chosen, like.shape[-1]).to(like.dtype)


def point_range(lo: int, hi: int, repeat: int) -> tuple[int, int]:
    """Return the half-open range of the points that the chains [lo, hi) begin at."""
    return lo // repeat, -(-hi // repeat)


def init_table(init: Any, live: dict[str, Any], live_table: Callable[[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the plain table of an `init`: `use` or `live`, with `scale` and `repeat` where they are given.

    Args:
        init: A law's name, a path, a reference to a function, a run directory, a tensor, a function, or a table.
        live: Keeps a tensor or function.
        live_table: Makes its stand-in.

    Raises:
        InputError: It is none of them, or the table has other keys.
    """
    if isinstance(init, Mapping):
        unknown = sorted(set(init) - {"use", "scale", "repeat"})
        if unknown or "use" not in init:
            got = f"the key '{unknown[0]}'" if unknown else "no `use`"
            raise InputError(f"an `init` table must have use, and may have scale and repeat; got {got}. Mend it.")
        scale, repeat = init.get("scale", 1.0), init.get("repeat", 1)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise InputError(f"`scale` of `init` must be a number > 0; got {scale!r}. Leave it at 1.")
        if isinstance(repeat, bool) or not isinstance(repeat, int | float) or repeat != repeat // 1 or repeat < 1:
            raise InputError(f"`repeat` of `init` must be a whole number >= 1; got {repeat!r}. Leave it at 1.")
        return {**init_table(init["use"], live, live_table), "scale": float(scale), "repeat": int(repeat)}
    if isinstance(init, str | Path):
        return {"use": str(init)}
    if isinstance(init, Tensor) and not init.is_floating_point():
        raise InputError(
            f"`init` must be a floating tensor [chains, *shape]; got {init.dtype}. Convert it with .float()."
        )
    if not isinstance(init, Tensor) and not callable(init):
        raise InputError(f"`init` must be {_FORMS}; got {type(init).__name__}. Use 'auto'.")
    live["init"] = init
    return live_table("init", init)


def build_start(table: Mapping[str, Any], source: Tensor | InitFunction | None, base: Path) -> Start:
    """Return the start that a table means.

    Args:
        table: As `init_table` made it.
        source: The live object, where the table names one.
        base: Folder that paths are relative to.

    Raises:
        InputError: A file, run or function cannot be had.
    """
    use = str(table.get("use"))
    found = source if source is not None else use if use in LAWS else _named(use, base)
    if isinstance(found, Tensor):
        found = promoted(found, "`init`")
        _check_finite(found)
    return Start(found, float(table.get("scale", 1.0)), int(table.get("repeat", 1)))


_FORMS = (
    "a tensor, a function, auto, normal, uniform, a .npy or .safetensors file, a run directory, or 'module:function'"
)


def _named(use: str, base: Path) -> Tensor | InitFunction:
    path = base / use
    if path.suffix in SUFFIXES:
        return _floating(load_array(path, what="`init`"), path)
    if path.is_dir():
        return _last_draws(path)
    if is_direct(use):
        return _function(use, base)
    close = near(use, LAWS)
    fix = f"Did you mean '{close}'?" if close else "Use auto, or check the path."
    raise InputError(f"`init` must be {_FORMS}; got {quoted(use)}. {fix}")


def _last_draws(path: Path) -> Tensor:
    job, manifest, summary = rundir.read(path)
    if summary is None:
        raise InputError(f"`init` must be a run that has ended; got '{path}', which has not. Let it end first.")
    last = read_array(job, len(job.stages) - 1, readers(job, manifest), "draws", slice(None))[:, -1]
    return last if last.is_floating_point() else last.float()


def _function(use: str, base: Path) -> InitFunction:
    try:
        function, _ = load_direct(use, base)
    except Exception as error:
        raise InputError(f"`init` '{use}' failed to load: {reason_of(error)}. Mend it, or use 'auto'.") from error
    if not callable(function):
        raise InputError(f"`init` must name a function of (chain ids, noise); got {use!r}, which is none. Name one.")
    return function  # type: ignore[no-any-return]


def _floating(points: Tensor, path: Path) -> Tensor:
    if not points.is_floating_point() or points.ndim == 0:
        raise InputError(
            f"`init` must be a file of floating numbers [chains, *shape]; got '{path}' with {points.dtype} "
            f"{list(points.shape)}. Save it anew."
        )
    return points


def _check_finite(points: Tensor) -> None:
    # A finite sum is proof enough, and needs no memory where points are mapped from a file.
    if bool(points.sum().isfinite()) or bool(points.isfinite().all()):
        return
    rows = points.reshape(-1, 1) if points.ndim < 2 else points.flatten(1)
    row = int((~rows.isfinite().all(1)).nonzero()[0])
    wrong = rows[row]
    raise InputError(
        f"`init` must hold finite numbers; got {wrong[~wrong.isfinite()][0].item()} in row {row}. Replace it."
    )


def _called(function: InitFunction, ids: Tensor, like: Tensor, noise: Noise) -> Tensor:
    position = function(ids, noise)
    if not isinstance(position, Tensor) or position.shape != like.shape:
        seen = list(position.shape) if isinstance(position, Tensor) else type(position).__name__
        raise InputError(
            f"the function given as `init` must return positions {list(like.shape)} for {len(like)} chain ids; "
            f"got {seen}. Axis 0 is the chain."
        )
    return position.to(device=like.device, dtype=like.dtype, copy=True).contiguous()
