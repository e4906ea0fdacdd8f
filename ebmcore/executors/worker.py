"""A worker's process: it builds a job from plain data, runs the chunks that it is sent, and answers with receipts.

It is started with one end of a pipe and nothing else of the host's (`child`): messages are JSON. A host that dies
closes the pipe, and the worker leaves at once: what it had not finished counts as not begun.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NoReturn

ALIVE = 1.0
"""Seconds between two looks whether the host lives, should another process hold its end of the pipe."""

Message = Mapping[str, Any]


def main(descriptor: int) -> None:
    """Serve the host at the other end of a pipe until it says that it is done."""
    os.set_inheritable(descriptor, False)
    host: Connection[Any, Any] = Connection(descriptor)
    inbox: SimpleQueue[Message] = SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(host, inbox, stop), name="ebmcore-host", daemon=True).start()
    hello = inbox.get()
    from ebmcore.executors.faults import fault_to_json

    try:
        serve, close = _prepared(hello, host, stop)
        for message in iter(inbox.get, {"end": True}):
            serve(message)
        close()
    except BaseException as error:  # raised again by the host
        _send(host, {"fault": fault_to_json(error)})
    sys.stdout.flush()
    sys.stderr.flush()
    # To take torch down piece by piece takes seconds.
    os._exit(0)


def _prepared(
    hello: Message, host: Connection[Any, Any], stop: threading.Event
) -> tuple[Callable[[Message], None], Callable[[], None]]:
    """Build the job; return what runs a chunk of it, and what ends it."""
    import torch

    from ebmcore.devices import torch_device
    from ebmcore.engine import run_chunk
    from ebmcore.executors.faults import fault_to_json
    from ebmcore.protocols import Chunk, JobSpec
    from ebmcore.runtime import built_runtime, close_runtime, open_runtime

    # One worker is one thread; two pools of OpenMP threads would spin against each other.
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, hello["default_dtype"]))
    torch.set_float32_matmul_precision(hello["matmul"])
    job, device = JobSpec.from_json(hello["job"]), str(hello["device"])
    if torch_device(device).type == "cuda":
        torch.cuda.set_device(torch_device(device))

    def progress(chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        _send(host, {"progress": [chunk.to_json(), step, dict(stats)]})

    open_runtime(replace(built_runtime(job), stop=stop, progress=progress))

    def serve(message: Message) -> None:
        try:
            receipt = run_chunk(job, Chunk.from_json(message["chunk"]), device)
        except BaseException as error:  # raised again by the host
            _send(host, {"fault": fault_to_json(error)})
        else:
            _send(host, {"receipt": receipt.to_json()})

    return serve, lambda: close_runtime(job)


def _listen(host: Connection[Any, Any], inbox: SimpleQueue[Message], stop: threading.Event) -> None:
    parent, job = os.getppid(), None
    while True:
        try:
            while not host.poll(ALIVE):
                if os.getppid() != parent:
                    _leave(job)
            message = json.loads(host.recv_bytes())
        except (EOFError, OSError):
            _leave(job)
        job = message.get("job", job)
        if "stop" in message:
            stop.set()
        else:
            inbox.put(message)
        if "end" in message:
            return


def _send(host: Connection[Any, Any], message: Message) -> None:
    try:
        host.send_bytes(json.dumps(message).encode())
    except OSError:
        os._exit(1)


def _leave(job: Message | None) -> NoReturn:
    """End now, whatever the other threads do: nobody waits for them."""
    if job is not None and job["path"] is None:
        from ebmcore import spooling
        from ebmcore.protocols import JobSpec

        spooling.clear(JobSpec.from_json(job))
    os._exit(1)
