"""The file drop source: a file that is put into a folder becomes events once, and is moved out of the way."""

from typing import Any

from lhd.plugin import Source, hookimpl
from lhd_filedrop.source import FileDrop

__all__ = ["FileDrop"]


@hookimpl
def lhd_sources() -> list[type[Source[Any]]]:
    """The one kind of this plugin."""
    return [FileDrop]
