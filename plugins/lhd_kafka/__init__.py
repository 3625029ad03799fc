"""The Kafka source: reads topics from positions that stand in lhd's own store, in one transaction with the events."""

from typing import Any

from lhd.plugin import Source, hookimpl
from lhd_kafka.source import Kafka

__all__ = ["Kafka"]


@hookimpl
def lhd_sources() -> list[type[Source[Any]]]:
    """The one kind of this plugin."""
    return [Kafka]
