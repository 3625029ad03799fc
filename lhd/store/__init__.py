"""The embedded store: one SQLite file in WAL mode, its schema, its one writer and its read-only reader."""

from lhd.store.reader import Reader
from lhd.store.store import Store

__all__ = ["Reader", "Store"]
