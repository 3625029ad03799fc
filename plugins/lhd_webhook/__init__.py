"""The webhook source: verifies a request over its raw bytes, commits it, and only then answers."""

from typing import Any

from lhd.plugin import Source, hookimpl
from lhd_webhook.source import Webhook

__all__ = ["Webhook"]


@hookimpl
def lhd_sources() -> list[type[Source[Any]]]:
    """The one kind of this plugin."""
    return [Webhook]
