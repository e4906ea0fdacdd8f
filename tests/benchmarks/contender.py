"""The parent's side of a worker process: start it, tell it to run, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, TypedDict

from tests.benchmarks.problems import Problem

ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
"""All are compared on the CPU; nothing is said about threads, so that each takes what it takes by default."""


class Answer(TypedDict):
    """What a worker says of one run."""

    seconds: float
    std: float
    peak_bytes: int
    numbers: int
    extended: bool


class LeftOut(Exception):
    """This contender does not take part; the text says why."""


class Contender:
    """One contender's process, warm once it has been made.

    Attributes:
        first: Its first run, with everything that it compiled before or during it, imports left out.

    Raises:
        LeftOut: It is not installed, has no such energy, or failed.
    """

    def __init__(self, who: str, problem: Problem) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        try:
            self.first = self._ask(f"{who}\n{problem.to_json()}\n")
        except BaseException:
            self.close()
            raise

    def run(self) -> Answer:
        """Let it do the work once, while this process waits.

        Raises:
            LeftOut: It failed.
        """
        return self._ask("run\n")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _ask(self, text: str) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            raise LeftOut(f"its process ended with {self._process.returncode}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise LeftOut(answer["missing"])
        if "failed" in answer:
            raise LeftOut(answer["failed"])
        return Answer(**answer)  # type: ignore[typeddict-item]

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "no output"
