"""lhd, a workflow daemon that listens to the world; the names here are those that plugin authors need."""

from importlib import import_module
from typing import Any

_PLUGIN_NAMES = frozenset({"Event", "Receipt", "Source", "SourceConfig", "SourceContext", "hookimpl"})


def __getattr__(name: str) -> Any:
    """Load the plugin surface, or the version, only when somebody asks for it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lhd")
    if name in _PLUGIN_NAMES:
        return getattr(import_module("lhd.plugin"), name)
    raise AttributeError(f"module 'lhd' has no attribute {name!r}")
