"""``lhd run``: the daemon itself."""

from collections.abc import Iterator

from lhd.cli.options import FINDINGS, UNUSABLE_CONFIGURATION, ConfigFile, fail


def run(config: ConfigFile = None) -> None:
    """Start the daemon and serve until SIGTERM or SIGINT."""
    import anyio
    import structlog

    from lhd import log
    from lhd.daemon import Daemon
    from lhd.errors import ConfigurationError, StoreError
    from lhd.sources.registry import Registry

    try:
        registry = Registry.load()
        configuration, sources = registry.load_configuration(config)
    except ConfigurationError as error:
        raise fail("\n".join(error.findings), UNUSABLE_CONFIGURATION) from None
    log.configure(configuration.log.level, configuration.log.format)
    for broken in registry.broken:
        structlog.get_logger("lhd.sources").warning("a plugin cannot be used", plugin=broken)
    try:
        anyio.run(Daemon(configuration, sources).run, backend_options={"use_uvloop": True})
    except* (StoreError, OSError) as group:
        raise fail("\n".join(f"lhd: {error}" for error in _leaves(group)), FINDINGS) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
