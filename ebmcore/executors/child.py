"""The host's side of one worker process: started, given chunks, listened to, and waited for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from typing import Any, final

import torch

from ebmcore.protocols import Chunk, JobSpec

# Neither the user's main module nor the parent's memory: a script needs no `if __name__ == "__main__"`. Ctrl-C and a
# scheduler's SIGTERM, which reach every process of a group, are the host's to hear; it tells its workers.
_BOOT = """\
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
import json
sys.path[:] = json.loads(sys.argv[2])
from ebmcore.executors.worker import main
main(int(sys.argv[1]))
"""


@final
class Child:
    """A worker process of a job, on one device.

    Attributes:
        device: Its label.
        chunk: What it runs at the moment.
        connection: Where it answers.
    """

    def __init__(self, job: JobSpec, device: str) -> None:
        self.device = device
        self.chunk: Chunk | None = None
        self.connection, theirs = Pipe()
        paths = [path for path in sys.path if isinstance(path, str)]
        try:
            with _signals_held():
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(paths)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        finally:
            theirs.close()
        self._send(
            {
                "job": job.to_json(),
                "device": device,
                "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
                "matmul": torch.get_float32_matmul_precision(),
            }
        )

    def assign(self, chunk: Chunk) -> None:
        """Give it a chunk to run."""
        self.chunk = chunk
        self._send({"chunk": chunk.to_json()})

    def stop(self) -> None:
        """Have the chunk in flight end at its next step."""
        self._send({"stop": True})

    def end(self) -> None:
        """Have the process end when it is free."""
        self._send({"end": True})

    def receive(self) -> Mapping[str, Any] | None:
        """Return its next message, which has come; None if there will be none, for it has died."""
        try:
            # Nothing comes from a dead one whose pipe a process of its own still holds open.
            if self.connection.poll():
                message: Mapping[str, Any] = json.loads(self.connection.recv_bytes())
                return message
        except (EOFError, OSError):
            pass
        return None

    def has_spoken(self) -> bool:
        """Say whether there is a message, or the end of all messages, to receive."""
        return self.connection.poll() or self.has_ended()

    def death(self) -> str:
        """Wait for its end and say how it ended."""
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def has_ended(self) -> bool:
        """Say whether the process is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End the process now, and wait for it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the host's end of the pipe."""
        self.connection.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        # A path in a table becomes its text; a worker that died is noticed where it is listened to.
        with suppress(OSError):
            self.connection.send_bytes(json.dumps(message, default=str).encode())


@contextmanager
def _signals_held() -> Iterator[None]:
    """Have a process that is started inside begin without hearing of Ctrl-C and SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
