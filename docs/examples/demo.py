"""The first minutes of ebmcore: three jobs from run files; the same bits from other workers, and after a kill.

    make demo        (or, in an environment of your own: python docs/examples/demo.py)

Everything it makes goes to runs/demo under the current folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import ebmcore as ebm

EXAMPLES = Path(__file__).resolve().parent
OUT = Path("runs/demo")
MARK = "made_by_demo.txt"


def main() -> None:
    began = time.perf_counter()
    fresh_folder(OUT)
    with part("1. The double well: an energy and a sampler that are plugins"):
        ebmcore_run("double_well.toml", OUT / "double_well")
    with part("2. An energy of your own: my_energy.py, an MLP of width 32"):
        ebmcore_run("mlp_own.toml", OUT / "mlp_own")
    with part("3. A million samples of an MLP of width 64, streamed to disk"):
        ebmcore_run("million.toml", OUT / "million")
    with part("4. That run again, killed half way and resumed: the same bytes"):
        killed_and_resumed("million.toml", OUT / "million_killed", OUT / "million")
    with part("5. The same job with 1 and with 2 workers: the same bytes"):
        same_bytes(OUT)
    with part("6. What the samples of part 1 look like"):
        picture(draws_of(OUT / "double_well"), OUT / "double_well.png")
    seconds = time.perf_counter() - began
    print(f"\nDone in {seconds:.0f} s. Next: README.md, or a run file of your own (ebmcore run FILE)")


def fresh_folder(folder: Path) -> None:
    """Make an empty folder, in place of an older demo's; nobody else's folder is touched."""
    if folder.exists():
        if not (folder / MARK).is_file():
            sys.exit(f"error: '{folder}' must not exist, or be an older demo's; got something else. Move it away.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("Made by docs/examples/demo.py of ebmcore, which replaces this folder when it runs.\n")


@contextmanager
def part(title: str) -> Iterator[None]:
    """Print a heading, and afterwards the seconds it took."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)
    began = time.perf_counter()
    yield
    print(f"({time.perf_counter() - began:.1f} s)", flush=True)


def ebmcore_run(file: str, out: Path, *options: str) -> None:
    """Run a run file of this folder as you would; end the demo if it fails."""
    with started(file, out, *options) as running:
        code = running.wait()
    if code != 0:
        sys.exit(code)


def started(file: str, out: Path, *options: str) -> subprocess.Popen:
    """Start to run a run file of this folder."""
    command = shutil.which("ebmcore", path=str(Path(sys.executable).parent))
    if command is None:
        sys.exit("error: `ebmcore` must be installed beside the Python that runs the demo. Use `make demo`.")
    arguments = ["run", os.path.relpath(EXAMPLES / file), "--out", str(out), *options]
    print(f"$ ebmcore {shlex.join(arguments)}", flush=True)
    return subprocess.Popen([command, *arguments])


def draws_of(run: Path) -> np.ndarray:
    """Return a run's draws [chains, draws, *shape] as any program would read them."""
    return np.load(run / "data" / "npy" / "draws.npy", mmap_mode="r")


def digest_of(run: Path) -> str:
    """Return the sha256 of a run's draws."""
    with (run / "data" / "npy" / "draws.npy").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def killed_and_resumed(file: str, out: Path, undisturbed: Path, *options: str) -> None:
    """Kill a run when half of its chunks are done, resume it, and compare its draws with an undisturbed run's."""
    with started(file, out, "--quiet", *options) as running:
        while running.poll() is None and done(out) < done(undisturbed) / 2:
            time.sleep(0.01)
        running.kill()
    print(f"killed (SIGKILL) with {done(out)} of {done(undisturbed)} chunks done", flush=True)
    ebmcore_run(file, out, "--quiet", "--resume", *options)
    compare({"resumed": out, "undisturbed": undisturbed})


def done(run: Path) -> int:
    """Return how many chunks of a run are committed."""
    log = run / "commits.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def same_bytes(out: Path, *options: str) -> None:
    """Run the double well with 1 and with 2 workers, and compare their draws."""
    runs = {f"{workers} worker{'s' if workers > 1 else ''}": out / f"double_well_{workers}" for workers in (1, 2)}
    for workers, run in enumerate(runs.values(), 1):
        executor = f'engine.executor={{use="threads", workers={workers}}}'
        ebmcore_run("double_well.toml", run, "--quiet", "--set", executor, *options)
    compare(runs)


def compare(runs: dict[str, Path]) -> None:
    """Print the digests of runs; end the demo if one byte of their draws differs."""
    digests = {name: digest_of(run) for name, run in runs.items()}
    for name, digest in digests.items():
        print(f"sha256 of draws.npy, {name + ':':<12} {digest}", flush=True)
    if len(set(digests.values())) > 1:
        sys.exit(f"error: the draws of {' and '.join(digests)} must be equal; got two digests. Please report it.")
    print("equal")


def picture(draws: np.ndarray, path: Path) -> None:
    """Draw the density of the double well's samples beside the exact one, and compare E x^2."""
    model = ebm.load("model", "double_well")()
    samples = np.asarray(draws[:, -1])
    bins = 48
    edges = np.linspace(-1.75, 1.75, bins + 1)
    width, middles = edges[1] - edges[0], (edges[:-1] + edges[1:]) / 2
    grid = torch.tensor(np.stack(np.meshgrid(middles, middles, indexing="ij"), -1).reshape(-1, 2))
    exact = torch.exp(-model(grid)).reshape(bins, bins).numpy()
    exact /= exact.sum() * width**2
    # Divided by the number of all samples, not of those inside the picture.
    counted = np.histogram2d(samples[:, 0], samples[:, 1], bins=(edges, edges))[0] / (len(samples) * width**2)
    margin = np.histogram(samples, bins=edges)[0] / (samples.size * width)

    figure = Figure(figsize=(9, 3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for axes, density, title in ((left, counted, f"{len(samples):,} samples"), (middle, exact, "exact density")):
        axes.imshow(density.T, origin="lower", extent=(-1.75, 1.75) * 2, vmin=0, vmax=exact.max(), cmap="magma")
        axes.set(title=title, xlabel="x[0]", ylabel="x[1]", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    right.stairs(margin, edges, fill=True, color="#b5b5d8", label="samples")
    right.plot(middles, exact.sum(1) * width, color="#b63679", label="exact")
    right.set(title="one coordinate", xlabel="x", yticks=(), xticks=(-1, 0, 1), ylim=(0, 1.3 * margin.max()))
    right.legend(frameon=False, loc="upper center", ncols=2)
    figure.savefig(path, dpi=100)

    squares = np.square(samples)
    value, error = squares.mean(), squares.std() / squares.size**0.5
    print(f"E x^2 of a coordinate: {value:.4f} +- {error:.4f}, exactly {model.exact_moments()['variance']:.4f}")
    print("(what differs beyond that error is the bias of ula, which falls with its step_size)")
    print(f"picture: {path}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
