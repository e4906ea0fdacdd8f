"""The run directory: `run.toml`, `manifest.json` (what ran), `commits.jsonl` (what is done), `data/`, `summary.json`.

All of it is text or a documented array format; nothing in it is ever executed.
"""

from ebmcore.rundir.commits import COMMITS as COMMITS
from ebmcore.rundir.commits import Commit as Commit
from ebmcore.rundir.commits import Log as Log
from ebmcore.rundir.commits import commit as commit
from ebmcore.rundir.commits import read_log as read_log
from ebmcore.rundir.commits import rewrite as rewrite
from ebmcore.rundir.directory import CHECKPOINTS as CHECKPOINTS
from ebmcore.rundir.directory import MANIFEST as MANIFEST
from ebmcore.rundir.directory import RUN as RUN
from ebmcore.rundir.directory import SUMMARY as SUMMARY
from ebmcore.rundir.directory import check_free as check_free
from ebmcore.rundir.directory import check_links as check_links
from ebmcore.rundir.directory import finish as finish
from ebmcore.rundir.directory import is_free as is_free
from ebmcore.rundir.directory import made as made
from ebmcore.rundir.directory import read as read
from ebmcore.rundir.directory import renew as renew
from ebmcore.rundir.directory import summary_of as summary_of
from ebmcore.rundir.lock import LOCK as LOCK
from ebmcore.rundir.lock import locked as locked
from ebmcore.rundir.names import is_name as is_name
from ebmcore.rundir.names import name_of as name_of
