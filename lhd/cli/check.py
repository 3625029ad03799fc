"""``lhd check``: every mistake of a configuration at once."""

import typer

from lhd.cli.options import FINDINGS, ConfigFile, fail


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
    name = "the defaults" if config is None else str(config)
    typer.echo(f"{name}: good; {len(sources)} sources, {len(configuration.event)} events")
