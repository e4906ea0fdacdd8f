"""An observer that takes its time."""

import time
from dataclasses import dataclass, field

import ebmcore as ebm


@dataclass(frozen=True)
class Slow:
    """Sleeps at every event."""

    seconds: float = field(default=1.2, metadata={"ge": 0, "description": "how long"})

    @ebm.hookimpl
    def ebmcore_progress(self):
        time.sleep(self.seconds)

    @ebm.hookimpl
    def ebmcore_chunk_done(self):
        time.sleep(self.seconds)
