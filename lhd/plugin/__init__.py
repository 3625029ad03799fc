"""The public surface for authors of sources; nothing else of lhd may be imported by a plugin.

A plugin is a module, named by an entry point in the group ``lhd``, that implements :func:`lhd_sources`. A source is a
class with a ``kind``, a configuration model and one coroutine, :meth:`Source.run`, that hands what it hears to
:meth:`SourceContext.commit`.
"""

from lhd.plugin.configuration import Model, Route, Secret, SourceConfig, Start
from lhd.plugin.decoding import Undecodable, parse_cloudevent, parse_json, parse_media, parse_text
from lhd.plugin.errors import ConfigError, ConfigErrors, Overloaded, Poisoned, Transient
from lhd.plugin.source import (
    API,
    KEEP,
    Acknowledgement,
    Event,
    HttpHandler,
    Keep,
    Receipt,
    Sent,
    Source,
    SourceContext,
    hookimpl,
    hookspec,
    lhd_sources,
)

__all__ = [
    "API",
    "KEEP",
    "Acknowledgement",
    "ConfigError",
    "ConfigErrors",
    "Event",
    "HttpHandler",
    "Keep",
    "Model",
    "Overloaded",
    "Poisoned",
    "Receipt",
    "Route",
    "Secret",
    "Sent",
    "Source",
    "SourceConfig",
    "SourceContext",
    "Start",
    "Transient",
    "Undecodable",
    "hookimpl",
    "hookspec",
    "lhd_sources",
    "parse_cloudevent",
    "parse_json",
    "parse_media",
    "parse_text",
]
