"""An observer that raises at every event."""

from dataclasses import dataclass

import ebmcore as ebm


@dataclass(frozen=True)
class Faulty:
    """Raises whenever a chunk is done."""

    @ebm.hookimpl
    def ebmcore_chunk_done(self, chunk):
        raise ConnectionError("the dashboard does not answer\ntry again later")
