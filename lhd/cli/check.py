"""``lhd check``: every mistake of a configuration at once."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lhd.cli.options import FINDINGS, ConfigFile, fail

if TYPE_CHECKING:
    from lhd.config import Configuration
    from lhd.sources.registry import ConfiguredSource


def check(config: ConfigFile = None) -> None:
    """Find every mistake in the configuration: file, line, key, cause and the nearest valid name."""
    from lhd.errors import ConfigurationError
    from lhd.sources.registry import Registry

    registry = Registry.load()
    try:
        configuration, sources = registry.load_configuration(config)
    except ConfigurationError as error:
        raise fail("\n".join([*error.findings, *registry.broken]), FINDINGS) from None
    if registry.broken:
        raise fail("\n".join(registry.broken), FINDINGS)
    failed = _run_tests(config, configuration, sources)
    if failed:
        raise fail("\n".join(failed), FINDINGS)
    name = "the defaults" if config is None else str(config)
    tests = f", {len(configuration.tests)} tests passed" if configuration.tests else ""
    typer.echo(f"{name}: good; {len(sources)} sources, {len(configuration.event)} events{tests}")


def _run_tests(config: Path | None, configuration: "Configuration", sources: "list[ConfiguredSource]") -> list[str]:
    """A finding for each test of the configuration that fails."""
    from lhd.intake.rehearsal import failures
    from lhd.toml_document import Document, nearest

    if not configuration.tests:
        return []
    assert config is not None
    document = Document.read(config)
    by_name = {source.name: source for source in sources}
    findings = []
    for number, test in enumerate(configuration.tests):
        place = ("tests", number)
        called = f"'{test.name}': " if test.name else ""
        if test.source not in by_name:
            text = f"{called}there is no source '{test.source}'; {nearest(test.source, by_name)}"
            findings.append(document.finding((*place, "source"), text))
            continue
        try:
            raw = test.raw(config.parent)
        except OSError as error:
            findings.append(document.finding((*place, "file"), f"{called}{test.file} cannot be read: {error.strerror}"))
            continue
        source = by_name[test.source]
        for failure in failures(test, raw, source.source, source.routes, configuration):
            key = ("expect", failure.key) if failure.key else ()
            findings.append(document.finding((*place, *key), called + failure.text))
    return findings
