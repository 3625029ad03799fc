"""Which kinds of source are installed, and what the ``[sources.*]`` tables ask of them.

Each plugin is loaded on its own: a broken one is named, and the others work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy
from pydantic import ConfigDict, Field

from lhd import plugin
from lhd.config import Configuration, examine, unusable
from lhd.errors import ConfigurationError
from lhd.intake.routes import Routes
from lhd.plugin import ConfigError, ConfigErrors, Model, Route, Source, SourceConfig
from lhd.sources.directories import load, plugin_paths
from lhd.toml_document import Document, Location, nearest, validate

GROUP = "lhd"


@dataclass(frozen=True, slots=True)
class ConfiguredSource:
    """One ``[sources.*]`` table that can be run."""

    name: str
    config: SourceConfig
    source: Source[Any]
    routes: Routes


@dataclass(slots=True)
class Registry:
    """The kinds of source by name, and one line for each plugin that could not be loaded."""

    kinds: dict[str, type[Source[Any]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    _origins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls) -> "Registry":
        """Load the plugins that are installed as distributions."""
        registry = cls()
        for entry_point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
            registry._load(entry_point)
        return registry

    def _load(self, entry_point: EntryPoint) -> None:
        self._guarded(_origin(entry_point), entry_point.load)

    def load_directory(self, directory: Path) -> None:
        """Load the plugins that stand as files in a folder. Raises OSError where the folder cannot be used."""
        for path in plugin_paths(directory):
            self._guarded(str(path), partial(load, path))

    def _guarded(self, origin: str, load: Callable[[], Any]) -> None:
        try:
            self.add(load(), origin)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does must not harm the others
            self.broken.append(f"plugin {origin}: {type(error).__name__}: {error}")

    def add(self, module: Any, origin: str) -> None:
        """Take the kinds of a plugin module; raises where a hook, a class or an API number is wrong."""
        plugins = pluggy.PluginManager("lhd")
        plugins.add_hookspecs(plugin)
        plugins.register(module)
        plugins.check_pending()
        if not plugins.get_hookcallers(module):
            raise TypeError("it implements no hook; decorate its lhd_sources with @hookimpl")
        for kinds in plugins.hook.lhd_sources():
            for source in kinds:
                self._add_kind(source, origin)

    def _add_kind(self, source: type[Source[Any]], origin: str) -> None:
        if source.api != plugin.API:
            raise TypeError(f"{source.__qualname__} is written for plugin API {source.api}, this lhd has {plugin.API}")
        source.config_class()
        if source.kind in self.kinds:
            raise TypeError(f"the kind '{source.kind}' is provided by {self._origins[source.kind]} already")
        self.kinds[source.kind] = source
        self._origins[source.kind] = origin

    def load_configuration(self, path: Path | None) -> tuple[Configuration, list[ConfiguredSource]]:
        """Read and check a file, or the defaults without one; raises ConfigurationError with every mistake in it."""
        document = Document.read(path)
        configuration, findings = examine(document)
        if configuration is not None:
            findings += unusable(configuration, document) + self._load_directories(configuration, document)
        sources = []
        tables = document.data.get("sources", {})
        for name, table in tables.items() if isinstance(tables, dict) else ():
            try:
                sources.append(self._configure(name, table, document))
            except ConfigurationError as error:
                findings += error.findings
        if configuration is None or findings:
            raise ConfigurationError(findings)
        return configuration, sources

    def _load_directories(self, configuration: Configuration, document: Document) -> list[str]:
        findings = []
        for number, directory in enumerate(configuration.plugins.dirs):
            try:
                self.load_directory(Path(directory))
            except OSError as error:
                text = str(error) if isinstance(error, PermissionError) else f"{directory}: {error.strerror}"
                findings.append(document.finding(("plugins", "dirs", number), text))
        return findings

    def _configure(self, name: str, table: Any, document: Document) -> ConfiguredSource:
        place = ("sources", name)
        if not isinstance(table, dict):
            raise ConfigurationError([document.finding(place, "this must be a table")])
        kind = table.get("kind")
        if not isinstance(kind, str) or kind not in self.kinds:
            raise ConfigurationError([document.finding((*place, "kind"), self._unknown_kind(kind))])
        source_class = self.kinds[kind]
        config = validate(source_class.config_class(), table, document, place)
        errors: list[ConfigError] = []
        try:
            routes = Routes(name, config.routes)
        except ConfigErrors as error:
            errors += error.errors
        try:
            source = source_class(config)
            source.prepare()
        except (ConfigError, ConfigErrors) as error:
            errors += error.errors if isinstance(error, ConfigErrors) else [error]
        except Exception as error:
            text = f"the plugin of kind '{kind}' failed: {type(error).__name__}: {error}"
            raise ConfigurationError([document.finding(place, text)]) from error
        if errors:
            raise ConfigurationError(_findings(errors, document, place))
        return ConfiguredSource(name, config, source, routes)

    def _unknown_kind(self, kind: Any) -> str:
        if kind is None:
            return f"this key is needed; there are the kinds {', '.join(sorted(self.kinds))}"
        broken = f" ({'; '.join(self.broken)})" if self.broken else ""
        return f"no installed plugin provides the kind '{kind}'; {nearest(str(kind), self.kinds)}{broken}"


class _Routes(Model):
    """What is looked at of a source's table where only its routes matter, so that nobody needs its secrets."""

    model_config = ConfigDict(extra="ignore")

    routes: tuple[Route, ...] = Field((), strict=False)


def read_routes(path: Path | None, source: str) -> tuple[Route, ...]:
    """The routes of a source in a file. Raises ConfigurationError, and KeyError without such a source."""
    document = Document.read(path)
    sources = document.data.get("sources", {})
    if source not in sources:
        named = ", ".join(sources) or "none"
        raise KeyError(f"the configuration has no source '{source}'; there are: {named}")
    place = ("sources", source)
    routes = validate(_Routes, sources[source], document, place).routes
    try:
        Routes(source, routes)
    except ConfigErrors as error:
        raise ConfigurationError(_findings(error.errors, document, place)) from None
    return routes


def _findings(errors: Sequence[ConfigError], document: Document, place: Location) -> list[str]:
    return [
        document.finding((*place, *_location(error.key)), error.text + (f"; {error.fix}" if error.fix else ""))
        for error in errors
    ]


def _origin(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    named = f"{distribution.name} {distribution.version}" if distribution else "unknown distribution"
    return f"'{entry_point.name}' of {named}"


def _location(key: str) -> tuple[str | int, ...]:
    """``routes[0].when`` as a location."""
    parts = key.replace("]", "").replace("[", ".").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)
