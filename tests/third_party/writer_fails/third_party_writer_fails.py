"""A writer that fails in the middle of a run."""

from dataclasses import dataclass, field
from typing import ClassVar


class Sink:
    def __init__(self, after):
        self.left = after

    def write(self, block):
        if not self.left:
            raise KeyError("chunk")
        self.left -= 1

    def close(self):
        pass


@dataclass(frozen=True)
class Fails:
    """Takes some blocks, then raises."""

    after: int = field(default=1, metadata={"ge": 0, "description": "blocks that it takes"})

    parallel: ClassVar[bool] = False

    def prepare(self, path, layout, committed):
        pass

    def open(self, path, layout):
        return Sink(self.after)

    def finish(self, path, layout, summary):
        pass
