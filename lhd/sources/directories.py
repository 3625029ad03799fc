"""Plugins as files: a module or a package in a folder of the configuration, loaded by its path.

Such a file is code that the daemon runs, so a file or folder that somebody else may write is refused.
"""

import importlib.util
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def plugin_paths(directory: Path) -> Iterator[Path]:
    """The modules (``*.py``) and packages of a folder, by name; names that begin with ``_`` or ``.`` are none.

    Raises OSError where the folder cannot be listed, and PermissionError where somebody else may write to it.
    """
    require_safe(directory)
    for path in sorted(directory.iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path


def load(path: Path) -> ModuleType:
    """Run the module or package at ``path``. Raises whatever it raises, and PermissionError where it is not safe."""
    require_safe(path)
    file = path / "__init__.py" if path.is_dir() else path
    require_safe(file)
    name = f"lhd_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def require_safe(path: Path) -> None:
    """Raise PermissionError where anybody but root and the daemon's user may change what is at ``path``."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to user {status.st_uid}; it must belong to root or the daemon's user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by others (mode {status.st_mode & 0o777:o}); chmod go-w it")
