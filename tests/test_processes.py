"""Runs in several processes: the same bytes, whatever dies, and nobody left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore import devices, registry
from ebmcore.executors.faults import fault_from_json, fault_to_json
from ebmcore.executors.processes import Processes
from ebmcore.prepare import prepare
from ebmcore.protocols import Chunk, Receipt
from ebmcore.request import Request
from ebmcore.runtime import close_runtime, open_runtime

CHAINS = 1_003
ULA = ebm.use("ula", step_size=0.01)
TWO = ebm.use("processes", workers=2)

PARTS = """
    import os, signal, sys, time
    from dataclasses import dataclass, field
    from pathlib import Path
    from typing import ClassVar

    import numpy as np

    IN_WORKER = "ebmcore.executors.worker" in sys.modules

    def well():
        return lambda x: ((x**2 - 1) ** 2).sum(-1)

    def shifted():
        return lambda x, shift, k: k * (x - shift).square().sum(-1)

    class Quadratic:
        shape = (2,)

        def __init__(self, what: str = "", where: str = "", after: int = 0, rows: int = 0) -> None:
            self.what, self.where, self.after, self.rows, self.calls = what, where, after, rows, 0

        def __call__(self, x):
            self.calls += 1
            due = self.calls > self.after and self.rows in (0, len(x))
            if IN_WORKER and due and not (self.where and Path(self.where).exists()):
                if self.where:
                    Path(self.where).touch()
                if self.what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.what == "exit":
                    os._exit(7)
                if self.what == "raise":
                    raise ZeroDivisionError("by the energy")
            if IN_WORKER and self.what == "slow":
                time.sleep(0.02)
            return 0.5 * x.square().sum(-1)

    @dataclass(frozen=True)
    class Single:
        "Keeps arrays as .npy files that one process has open at a time."
        full: bool = False
        parallel: ClassVar[bool] = False

        def prepare(self, path, layout, committed):
            for name, spec in layout.arrays.items() if not committed else ():
                np.lib.format.open_memmap(path / f"{name}.npy", "w+", spec.dtype, spec.shape)

        def open(self, path, layout):
            assert not IN_WORKER, "a writer that is not parallel was opened by a worker"
            return Sink(path, layout, self.full)

        def finish(self, path, layout, summary): ...

    class Sink:
        def __init__(self, path, layout, full):
            self.files = {name: np.load(path / f"{name}.npy", mmap_mode="r+") for name in layout.arrays}
            self.full = full

        def write(self, block):
            if self.full and block.lo:
                raise OSError(28, "No space left on device")
            for name, tensor in block.arrays.items():
                self.files[name][block.lo : block.hi, block.first : block.last] = tensor.numpy()

        def close(self):
            for file in self.files.values():
                file.flush()

    @dataclass(frozen=True)
    class Full(Single):
        parallel: ClassVar[bool] = True

        def open(self, path, layout):
            assert IN_WORKER, "a parallel writer was opened by the host"
            return Sink(path, layout, True)
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    file = tmp_path_factory.mktemp("parts") / "parts.py"
    file.write_text(dedent(PARTS))
    return file


def draw(energy, executor, **settings):
    run = {"chains": CHAINS, "shape": 2, "steps": 24, "draws": 3, "seed": 11, "chunk_size": 128, **settings}
    return ebm.sample(energy, run.pop("sampler", ULA), executor=executor, **run)


def digest(result) -> str:
    arrays = [stage.read(name) for stage in result.stages for name in stage.layout.arrays]
    return hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()


def children() -> set[int]:
    """Return the processes that this one has started and that live."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in listed}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
def test_processes_give_the_bytes_of_serial(workers):
    # 1,003 chains are 8 chunks that two or three workers cannot share evenly, the last one ragged.
    serial = draw(ebm.use("double_well"), "serial", chunk_size=CHAINS, reducers="moments")
    result = draw(ebm.use("double_well"), ebm.use("processes", workers=workers), reducers="moments")
    assert digest(result) == digest(serial)
    assert result.summary()["mean"] == serial.summary()["mean"]
    assert result.reduced["moments"].keys() == serial.reduced["moments"].keys()
    for name, value in serial.reduced["moments"].items():
        assert torch.equal(result.reduced["moments"][name], value), name
    assert not children()


@pytest.mark.long
@pytest.mark.parametrize("size", [64, 500, CHAINS])
@pytest.mark.parametrize("model", ["double_well", "gaussian"])
def test_chunk_sizes_do_not_matter(model, size):
    energy = ebm.use("gaussian", mean=[0.0, 1.0]) if model == "gaussian" else ebm.use("double_well")
    one, two = draw(energy, "serial", chunk_size=CHAINS), draw(energy, TWO, chunk_size=size)
    assert digest(one) == digest(two)


@pytest.mark.long
def test_a_matrix_product_has_the_same_bytes_for_equal_chunks():
    energy = ebm.use("mlp", dim=2, quadratic=1.0)
    assert digest(draw(energy, TWO)) == digest(draw(energy, "serial"))


def test_stages_and_writers_of_both_kinds_get_the_same_files(parts, tmp_path):
    stages = [ebm.Stage(ULA, 12, draws=4, warmup=2), ebm.Stage(ebm.use("mala", step_size=0.1), 20, draws=10)]

    def files(executor):
        out = tmp_path / str(executor["use"])
        ebm.sample(
            f"{parts}:well",
            stages,
            chains=CHAINS,
            shape=2,
            seed=3,
            chunk_size=128,
            executor=executor,
            writers=["npy", f"{parts}:Single"],
            out=out,
        )
        assert not (out / "spool").exists()
        return {
            str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted((out / "data").rglob("*.npy"))
        }

    found = files(TWO)
    assert found == files(ebm.use("serial"))
    assert {"data/npy/draws.npy", "data/Single/draws.npy", "data/Single/0/draws.npy"} <= found.keys()
    assert found["data/npy/draws.npy"] == found["data/Single/draws.npy"]


def test_a_worker_that_is_killed_is_replaced_and_the_bytes_are_the_same(parts, tmp_path):
    energy = ebm.use(f"{parts}:Quadratic", what="kill", where=str(tmp_path / "killed"), after=70)
    result = draw(energy, TWO, out=tmp_path / "run")
    assert (tmp_path / "killed").exists()
    assert digest(result) == digest(draw(f"{parts}:Quadratic", "serial"))
    lines = (tmp_path / "run/commits.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["chunk"]["lo"] for line in lines}) == 8
    assert not children()


@pytest.mark.long
@pytest.mark.parametrize(("what", "death"), [("kill", "SIGKILL"), ("exit", "exit code 7")])
def test_a_chunk_that_kills_three_workers_stops_the_run_by_name(parts, what, death, tmp_path):
    energy = ebm.use(f"{parts}:Quadratic", what=what, rows=64)
    with pytest.raises(ebm.RunError, match=rf"chains \[128, 192\).*3 workers.*{death}.*resume") as caught:
        draw(energy, ebm.use("processes", workers=1), chains=192, out=tmp_path / "run")
    assert not isinstance(caught.value, ebm.InputError)
    assert len((tmp_path / "run/commits.jsonl").read_text().splitlines()) == 1
    assert not children()


def test_an_error_of_a_worker_comes_back_as_what_it_was(parts):
    with pytest.raises(ebm.NonFiniteError, match=r"chain \d+ must stay finite.*at step \d+") as caught:
        draw(ebm.use("double_well"), TWO, sampler=ebm.use("ula", step_size=5.0), chains=128)
    assert "ebmcore/engine.py" in str(caught.value.__cause__)
    with pytest.raises(ebm.RunError, match=r"Quadratic' failed in the run: .*by the energy \(parts.py, line") as caught:
        draw(ebm.use(f"{parts}:Quadratic", what="raise"), ebm.use("processes", workers=1), chains=64)
    assert "ZeroDivisionError" in str(caught.value.__cause__)
    assert not children()


@pytest.mark.parametrize("writer", ["Full", pytest.param("Single", marks=pytest.mark.long)])
def test_a_full_disk_ends_the_run_and_keeps_what_was_committed(parts, writer, tmp_path):
    table = {"use": f"{parts}:{writer}", **({"full": True} if writer == "Single" else {})}
    with pytest.raises(ebm.RunError, match=rf"writer '{writer}'.*No space left on device.*resume"):
        draw(f"{parts}:well", ebm.use("processes", workers=1), writers=table, out=tmp_path / "run")
    (line,) = (tmp_path / "run/commits.jsonl").read_text().splitlines()
    assert Chunk.from_json(json.loads(line)["chunk"]).lo == 0
    assert not children()


def conditioned():
    return lambda x, shift: (x.sum(-1) - shift) ** 2


REFUSED = {
    "the energy must be importable.*'module:Name'": (lambda x: x.square().sum(-1), {}),
    "`init` must be importable.*'module:Name'": ("double_well", {"init": lambda ids, noise: torch.zeros(len(ids), 2)}),
    "the energy must be importable.*'__main__:conditioned'": ("__main__:conditioned", {"shared": {"shift": "s.npy"}}),
    "the energy must be importable.*'conditioned', registered": ("conditioned", {"shared": {"shift": "s.npy"}}),
    "the sampler must be importable.*ULA": (
        "double_well",
        {"sampler": ebm.use("projected", sampler=ebm.load("sampler", "ula")(step_size=0.01), low=-2.0, high=2.0)},
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_lives_in_this_process_alone_is_refused_before_anything_is_written(said, tmp_path, monkeypatch):
    energy, settings = REFUSED[said]
    np.save(tmp_path / "s.npy", np.zeros(1, np.float32))
    monkeypatch.setattr(sys.modules["__main__"], "conditioned", conditioned, raising=False)
    try:
        ebm.register("model", "conditioned")(conditioned)
        energy = "./parts.py:conditioned" if energy == "__conditioned__" else energy
        with pytest.raises(ebm.InputError, match=said) as caught:
            draw(energy, "processes", out=tmp_path / "run", base=tmp_path, **settings)
    finally:
        registry.renew()
    assert "executor 'processes'" in str(caught.value)
    assert "or use executor 'threads' or 'serial'." in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not children()


def test_closing_the_generator_and_a_request_to_stop_end_the_workers(parts):
    energy = ebm.use(f"{parts}:Quadratic", what="slow")
    request = Request(energy, ULA, chains=512, shape=2, steps=100_000, seed=1, chunk_size=128, executor=TWO)
    prepared = prepare(request)
    prepared.runtime.progress = lambda chunk, step, stats: prepared.runtime.stop.set()
    open_runtime(prepared.runtime)
    try:
        began = time.monotonic()
        with pytest.raises(ebm.RunStopped):
            list(Processes().run(prepared.job, prepared.plan.chunks, ["cpu:0", "cpu:1"]))
        assert time.monotonic() - began < 60
    finally:
        close_runtime(prepared.job)
    assert not children()


def test_a_worker_that_cannot_start_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ebm.RunError, match=r"process must be able to start; got: No such file.*executor 'threads'"):
        draw("double_well", TWO)


@pytest.mark.long
def test_workers_leave_when_their_host_is_killed(parts, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import ebmcore as ebm\n"
        f"energy = ebm.use({str(parts) + ':Quadratic'!r}, what='slow')\n"
        "ebm.sample(energy, ebm.use('ula', step_size=0.01), chains=512, chunk_size=128, steps=100_000,\n"
        f"           executor=ebm.use('processes', workers=2), out={str(tmp_path / 'run')!r})\n"
    )
    environment = {**os.environ, "EBMCORE_CHECKPOINT_SECONDS": "0"}
    host = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        last = time.monotonic() + 120
        # Both run their chunk when both have left a checkpoint.
        while len(list((tmp_path / "run").glob("checkpoints/*.safetensors"))) < 2 and time.monotonic() < last:
            time.sleep(0.1)
        workers = {int(pid) for pid in Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()}
        assert len(workers) == 2
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    last = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < last:
        time.sleep(0.1)
    assert not any(map(alive, workers))


@pytest.mark.long
def test_a_script_needs_no_guard_and_blocked_plugins_stay_blocked(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        dedent("""
        import hashlib, sys
        import ebmcore as ebm
        print("main")
        for executor in ("serial", "processes"):
            result = ebm.sample("double_well", ebm.use("ula", step_size=0.01), chains=500, shape=(2,), steps=10,
                                seed=1, chunk_size=128, executor=executor, devices=["cpu:0", "cpu:1"])
            print(hashlib.sha256(result.draws.numpy().tobytes()).hexdigest(), result.provenance["job"]["noise"])
        """)
    )
    environment = {**os.environ, "EBMCORE_NO_PLUGIN": "noise:numba"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True, timeout=250
    )
    first, *digests = done.stdout.splitlines()
    assert first == "main"
    assert len(digests) == 2
    assert len(set(digests)) == 1
    assert digests[0].endswith("reference")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ebm.NonFiniteError("chain 3"), ebm.NonFiniteError, "^chain 3$"),
        (ebm.SettingsError("`step_size` must"), ebm.SettingsError, "^`step_size` must$"),
        (KeyError("lost"), KeyError, "lost"),
        (UnicodeDecodeError("ascii", b"x", 0, 1, "odd"), ebm.RunError, "UnicodeDecodeError: .*odd"),
        (KeyboardInterrupt(), ebm.RunError, "KeyboardInterrupt"),
        (type("Odd", (Exception,), {})("own"), ebm.RunError, "Odd: own.*resume"),
        (type("OwnInput", (ebm.InputError,), {})("own"), ebm.InputError, "^own$"),
    ],
)
def test_errors_survive_a_trip_through_json(error, kind, said):
    if isinstance(error, ebm.InputError):
        error.key = ("stage", 0, "sampler")
    again = fault_from_json(json.loads(json.dumps(fault_to_json(error))))
    assert type(again) is kind
    assert re.search(said, str(again))
    assert getattr(again, "key", ()) == getattr(error, "key", ())


def test_tensors_of_this_process_go_to_workers_as_files(parts, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def shifted(executor):
        generator = torch.Generator().manual_seed(1)
        return draw(
            f"{parts}:shifted",
            executor,
            sampler=ebm.use("mala", step_size=0.1),
            init={"use": torch.randn(CHAINS, 2, generator=generator), "scale": 0.5},
            condition={"shift": torch.randn(CHAINS, 2, generator=generator).bfloat16()},
            shared={"k": torch.tensor(2.0)},
            precision="float64",
        )

    assert digest(shifted(TWO)) == digest(shifted("serial"))
    assert not list(tmp_path.glob("ebmcore-*"))


def test_a_run_that_is_stopped_goes_on_in_one_process_with_what_was_spooled(parts, tmp_path, monkeypatch):
    energy = ebm.use(f"{parts}:Quadratic", what="slow")
    stages = [ebm.Stage(ULA, 12, draws=4, warmup=2), ebm.Stage(ebm.use("mala", step_size=0.1), 20, draws=10)]
    out = tmp_path / "run"

    def run(executor, where=out):
        return ebm.sample(
            energy,
            stages,
            chains=CHAINS,
            shape=2,
            seed=3,
            chunk_size=128,
            executor=executor,
            writers=["npy", f"{parts}:Single"],
            out=where,
            resume=True,
        )

    def interrupt():
        # The first stage's draws wait in files, and both workers are in the second.
        while not list(out.glob("spool/0-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(TWO)
    assert not children()
    assert list(out.glob("checkpoints/*.safetensors"))
    assert list(out.glob("spool/0-*"))
    resumed, whole = run("serial"), run("serial", tmp_path / "whole")
    assert digest(resumed) == digest(whole)
    for name in ("draws.npy", "0/draws.npy"):
        files = [(folder / "data/Single" / name).read_bytes() for folder in (out, tmp_path / "whole")]
        assert files[0] == files[1]
    assert not (out / "spool").exists()


@pytest.mark.long
def test_a_run_whose_host_and_workers_are_killed_again_and_again_ends_with_the_same_bytes(parts, tmp_path):
    """Up to twenty kills, at moments of chance: now the host, which is followed by another, now a worker."""
    job = tmp_path / "job.toml"
    job.write_text(
        f'''
        model = {{use = "{parts}:Quadratic", what = "slow"}}
        stage = [
            {{sampler = {{use = "ula", step_size = 0.01}}, steps = 160, draws = 4, warmup = 2}},
            {{sampler = {{use = "mala", step_size = 0.1}}, steps = 160, draws = 10}},
        ]
        run = {{chains = {CHAINS}, shape = [2], seed = 3}}
        engine = {{chunk_size = 128}}
        writer = [{{use = "npy"}}, {{use = "{parts}:Single"}}]
        reducer = [{{use = "moments"}}]
        '''
    )
    command = [sys.executable, "-c", "import sys; from ebmcore.cli import main; sys.exit(main())", "run", str(job)]
    environment = {**os.environ, "EBMCORE_CHECKPOINT_SECONDS": "0.2"}
    two = [
        "--set",
        "engine.executor={use='processes', workers=2}",
        "--resume",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    chance, kills, code = random.Random(7), 0, None
    while code != 0:
        host = subprocess.Popen([*command, *two], env=environment)
        workers: list[int] = []
        begun = time.monotonic()
        while len(workers) < 2 and host.poll() is None:
            assert time.monotonic() - begun < 60
            time.sleep(0.05)
            workers = [int(pid) for pid in Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()]
        while kills < 20 and host.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                host.wait(chance.uniform(0.2, 3))
            victim = chance.choice([host.pid, *workers])
            if host.poll() is None and alive(victim):
                os.kill(victim, signal.SIGKILL)
                kills += 1
        code = host.wait()
        # 1: three workers were killed at one chunk.
        assert code in (0, 1, -signal.SIGKILL)
    plain = ["--set", "engine.executor='serial'", "--quiet", "--out", str(tmp_path / "whole")]
    subprocess.run([*command, *plain], check=True, env=environment)
    found = [
        {str(file.relative_to(run)): file.read_bytes() for file in sorted((run / "data").rglob("*.npy"))}
        for run in (tmp_path / "run", tmp_path / "whole")
    ]
    assert found[0] == found[1]
    assert {"data/npy/0/draws.npy", "data/Single/draws.npy"} <= found[0].keys()
    # How many fit into the run depends on the machine.
    assert kills >= 8
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "whole")]
    assert [one["reduced"] for one in summaries[:1]] == [one["reduced"] for one in summaries[1:]]


def test_receipts_survive_a_trip_through_json():
    part = Receipt(Chunk(0, 64, 0, 5), "cpu", 1.0, {"moments": {"mean": torch.ones(1, 2)}}, (), 1, ("0-0",))
    whole = Receipt(Chunk(0, 128, 0, 5), "cpu", 2.0, parts=(part, part))
    again = Receipt.from_json(json.loads(json.dumps(whole.to_json())))
    assert again.chunk == whole.chunk
    assert [piece.spooled for piece in again.pieces()] == [part.spooled] * 2
    assert torch.equal(again.parts[0].reduced["moments"]["mean"], torch.ones(1, 2))
    assert part.pieces() == (part,)


def test_several_accelerators_mean_processes_where_another_process_can_build_the_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    labels = devices.resolve_devices("auto")
    assert labels == ("cuda:0", "cuda:1")
    assert devices.automatic_executor(labels, portable=True) == ("processes", "one process a device")
    name, why = devices.automatic_executor(labels, portable=False)
    assert name == "threads"
    assert "only this one has the run's objects" in why
    assert devices.automatic_executor(("cuda:0",), portable=True)[0] == "threads"
    assert devices.automatic_executor(("cpu:0", "cpu:1"), portable=True)[0] == "threads"


PEAK = """
import resource, sys
import ebmcore as ebm
ebm.sample(ebm.use("double_well"), ebm.use("ula", step_size=0.01), chains=int(sys.argv[1]), shape=(2,), steps=5, seed=1,
           out=sys.argv[2], executor=ebm.use("processes", workers=2), devices=["cpu:0", "cpu:1"])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.long
def test_ten_million_chains_take_the_memory_of_a_million_in_every_worker(tmp_path):
    def peak(chains: int) -> int:
        """Return the largest peak of resident memory of a worker, in kilobytes."""
        arguments = [sys.executable, "-c", PEAK, str(chains), str(tmp_path / str(chains))]
        return int(subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=280).stdout)

    small, large = peak(1_000_000), peak(10_000_000)
    assert np.load(tmp_path / "10000000/data/npy/draws.npy", mmap_mode="r").shape == (10_000_000, 1, 2)
    assert large < 1.1 * small
