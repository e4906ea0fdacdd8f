"""Plugins: entry points -> records -> loaded, validated objects. Imports no plugin, torch or pydantic."""

from __future__ import annotations

from ebmcore.registry.defaults import READY as READY
from ebmcore.registry.defaults import is_ours as is_ours
from ebmcore.registry.defaults import ours as ours
from ebmcore.registry.defaults import settled as settled
from ebmcore.registry.process import default as default
from ebmcore.registry.process import load as load
from ebmcore.registry.process import register as register
from ebmcore.registry.process import renew as renew
from ebmcore.registry.process import use as use
from ebmcore.registry.records import Built as Built
from ebmcore.registry.records import Loaded as Loaded
from ebmcore.registry.records import Record as Record
from ebmcore.registry.records import State as State
from ebmcore.registry.registry import Registry as Registry
from ebmcore.registry.tables import FIRST_PARTY as FIRST_PARTY
from ebmcore.registry.tables import KINDS as KINDS
