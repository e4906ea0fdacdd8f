"""The reference noise backend: Threefry-2x32-20 and Box-Muller in plain torch, for any device that has float64.

It is the definition that other backends are compared with. A number depends on the seed, the
step, the call, the chain and the element, and on nothing else:

    key   = threefry(seed, (t, call))
    E     = chain * d + element < 2**64  (d elements a chain),  pair = E // 2,  lane = E % 2
    words = threefry(key, pair)                 64-bit values are two words, low first
    uniform:  (word >> 8) * 2**-24
    normal:   u0, u1 = word * 2**-32 + 2**-33   in the output's dtype
              lane 0 = sqrt(-2 ln u0) * cos(2 pi u1),  lane 1 = sqrt(-2 ln u0) * sin(2 pi u1)

Logarithm, root, cosine, sine and product are in float64, rounded once to the output's dtype.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import Key

_Words = tuple[int, int]
_Injections = list[tuple[Tensor, Tensor]]

_MASK = 0xFFFFFFFF
_PARITY = 0x1BD11BDA
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
# A constant that is a tensor already costs 1.2 us a call less than a Python number.
_TURNS = tuple((torch.tensor(32 - r).int(), torch.tensor((1 << r) - 1).int(), 1 << r) for r in _ROTATIONS)
_SHIFT, _LOW24 = torch.tensor(8).int(), torch.tensor(0xFFFFFF).int()


@dataclass(frozen=True)
class Reference:
    """Noise in plain torch, some ten times slower than a fused kernel: the truth that kernels are held to."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def fill_(self, out: Tensor, kind: Literal["normal", "uniform"], key: Key, chains: range | Tensor, /) -> Tensor:
        """Overwrite `out` with the numbers of `key` for the chains.

        Args:
            out: [n, *any], float32 or float64, of any strides.
            kind: `"normal"` for N(0, 1), `"uniform"` for [0, 1) in multiples of 2**-24.
            key: what the numbers are for; `key.t` may be a tensor of one integer on `out`'s device.
            chains: the n ids, a range or an int64 tensor [n] on `out`'s device; repeats allowed.

        Returns:
            `out`.

        Raises:
            InputError: the range's ids times the elements of a chain pass 2**64; of a tensor of ids this is
                not checked, since reading it would stop a GPU.
        """
        if out.numel() == 0:
            return out
        if not out.is_contiguous():
            return out.copy_(self.fill_(torch.empty(out.shape, dtype=out.dtype, device=out.device), kind, key, chains))
        rows = out.view(out.shape[0], -1)
        injections = _injections(*_key_words(key, out.device))
        if isinstance(chains, range) and chains.step == 1:
            _fill_range(rows, kind, injections, chains.start)
        elif isinstance(chains, range):
            ids = torch.arange(chains.start, chains.stop, chains.step, device=out.device)
            _fill_ids(rows, kind, injections, ids)
        else:
            _fill_ids(rows, kind, injections, chains)
        return out

    def perturb_(
        self,
        x: Tensor,
        scale: float | Tensor,
        key: Key,
        chains: range | Tensor,
        /,
        *,
        decay: float | Tensor = 1.0,
        drift: Tensor | None = None,
        drift_scale: float | Tensor = 0.0,
    ) -> Tensor:
        """Overwrite `x` [n, *any] with (decay*x + drift_scale*drift) + scale*z, z ~ N(0, 1) as `fill_` gives it.

        Each product and sum is rounded by itself, without fused multiply-add, so that the bits
        do not depend on where a chain lies in the batch. Factors (a float, [n], or of `x`'s
        rank and broadcastable to it) are rounded to `x`'s dtype first.

        Returns:
            `x`.
        """
        z = self.fill_(torch.empty(x.shape, dtype=x.dtype, device=x.device), "normal", key, chains)
        z.mul_(_factor(scale, x))
        if isinstance(decay, Tensor) or decay != 1.0:
            x.mul_(_factor(decay, x))
        if drift is not None:
            x.add_(torch.mul(drift, _factor(drift_scale, x)))
        return x.add_(z)


def threefry(key: _Words, counter: _Words) -> _Words:
    """Return Threefry-2x32-20 of two 32-bit words under a key of two: the cipher on Python integers."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = counter
    for group in range(5):
        x0 = (x0 + schedule[group % 3]) & _MASK
        x1 = (x1 + schedule[(group + 1) % 3] + group) & _MASK
        for r in _ROTATIONS[:4] if group % 2 == 0 else _ROTATIONS[4:]:
            x0 = (x0 + x1) & _MASK
            x1 = (x1 << r & _MASK | x1 >> 32 - r) ^ x0
    return (x0 + schedule[2]) & _MASK, (x1 + schedule[0] + 5) & _MASK


def threefry_words(key: _Words, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return Threefry-2x32-20 of 64-bit counters `pairs` [m], int64: two int32 tensors [m] that hold the bits."""
    return _encrypt(pairs, _injections(*(_word(word, pairs.device) for word in key)))


def _key_words(key: Key, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the words of key(t, call), int32 without a dimension."""
    if isinstance(key.t, Tensor):
        # A host value would break a captured graph: the key is made where t lies.
        counter = key.t.reshape(1).long() + (key.call << 32)
        low, high = threefry_words(key.seed, counter)
        return low[0], high[0]
    w0, w1 = threefry(key.seed, (key.t, key.call))
    return _word(w0, device), _word(w1, device)


def _word(word: int, device: torch.device) -> Tensor:
    return torch.tensor(word - (word >> 31 << 32), dtype=torch.int32, device=device)


def _injections(k0: Tensor, k1: Tensor) -> _Injections:
    """Return what is added to the two words before each group of four rounds and after the last."""
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    return [(schedule[group % 3], schedule[(group + 1) % 3] + group) for group in range(6)]


def _fill_range(rows: Tensor, kind: str, injections: _Injections, first_chain: int) -> None:
    """Fill `rows` [n, d] for consecutive chains: their elements are consecutive, so every pair is made once."""
    flat = rows.view(-1)
    pair, lane = divmod(first_chain * rows.shape[1], 2)
    if 2 * pair + lane + flat.numel() > 2**64:
        raise InputError(
            f"chain ids times elements a chain must stay <= 2**64; got ids up to {first_chain + len(rows)} "
            f"times {rows.shape[1]}. Number the chains from a smaller id."
        )
    total = (lane + flat.numel() + 1) // 2
    size = min(total, _block(rows))
    index = torch.arange(size, device=rows.device)
    numbers = torch.empty(size, 2, dtype=rows.dtype, device=rows.device)
    for done in range(0, total, size):
        m = min(size, total - done)
        made = _make(numbers[:m], kind, index[:m] + (pair + done), injections)
        lo = 2 * done - lane
        hi = min(lo + 2 * m, flat.numel())
        flat[max(lo, 0) : hi] = made.view(-1)[max(-lo, 0) : hi - lo]


def _fill_ids(rows: Tensor, kind: str, injections: _Injections, ids: Tensor) -> None:
    """Fill `rows` [n, d] for chains `ids` [n] in any order; with an odd d, one may begin in lane 1 of a pair."""
    n, d = rows.shape
    width = (d + 1) // 2
    size = max(1, _block(rows) // width)
    first = ids * d
    starts, odd = (first >> 1 & 2**63 - 1).unsqueeze(1), (first & 1).bool().unsqueeze(1)
    index = torch.arange(width, device=rows.device)
    numbers = torch.empty(min(n, size), 2 * width, dtype=rows.dtype, device=rows.device)
    for lo in range(0, n, size):
        part = slice(lo, lo + size)
        pairs = (starts[part] + index).view(-1)
        made = _make(numbers.view(-1, 2)[: len(pairs)], kind, pairs, injections).view(-1, 2 * width)
        rows[part] = torch.where(odd[part], made[:, 2 * width - d :], made[:, :d])


def _block(rows: Tensor) -> int:
    """Return the number of pairs to make at a time: on a CPU what the cache holds, elsewhere what hides a launch.

    Normals, million a second on one AVX-512 core with 1 MiB of second cache, by block of 2**13 ... 2**17
    pairs: 42, 56, 73, 80, 80; on two threads at once 2**15 gives 67, 2**16 gives 99.
    """
    return 1 << 16 if rows.device.type == "cpu" else 1 << 22


def _make(out: Tensor, kind: str, pairs: Tensor, injections: _Injections) -> Tensor:
    """Overwrite `out` [m, 2] with the numbers of `pairs` [m]; return it."""
    w0, w1 = _encrypt(pairs, injections)
    if kind == "uniform":
        out[:, 0] = w0.bitwise_right_shift_(_SHIFT).bitwise_and_(_LOW24)
        out[:, 1] = w1.bitwise_right_shift_(_SHIFT).bitwise_and_(_LOW24)
        return out.mul_(2.0**-24)
    radius = _open_unit(w0, out.dtype).log_().mul_(-2.0).sqrt_()
    angle = _open_unit(w1, out.dtype).mul_(2 * math.pi)
    out[:, 0] = torch.cos(angle).mul_(radius)
    out[:, 1] = angle.sin_().mul_(radius)
    return out


def _open_unit(word: Tensor, dtype: torch.dtype) -> Tensor:
    """Return word * 2**-32 + 2**-33, rounded to `dtype`, as float64: in (0, 1]."""
    return word.view(torch.uint32).to(dtype).mul_(2.0**-32).add_(2.0**-33).double()


def _encrypt(pairs: Tensor, injections: _Injections) -> tuple[Tensor, Tensor]:
    """Return the two words of each counter. int32 wraps as uint32 does; torch has no sum or shift of uint32."""
    x0 = pairs.int()
    x1 = (pairs >> 32).int()
    spare = torch.empty_like(x0)
    for group, (a, b) in enumerate(injections):
        x0 += a
        x1 += b
        if group == 5:
            break
        for shift, mask, factor in _TURNS[:4] if group % 2 == 0 else _TURNS[4:]:
            x0 += x1
            # rotate(x1, r) = (x1 >> 32 - r, sign bits cleared) + x1 * 2**r: the parts share no bit
            torch.bitwise_right_shift(x1, shift, out=spare)
            spare.bitwise_and_(mask).add_(x1, alpha=factor).bitwise_xor_(x0)
            x1, spare = spare, x1
    return x0, x1


def _factor(factor: float | Tensor, x: Tensor) -> float | Tensor:
    """Return a factor that broadcasts to `x` chain by chain."""
    if not isinstance(factor, Tensor):
        return factor
    if factor.ndim == 1:
        factor = factor.view(-1, *(1,) * (x.ndim - 1))
    return factor.to(x.dtype)
