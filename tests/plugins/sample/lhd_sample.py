"""A third-party source: counts once, then waits."""

from typing import Any

import anyio

from lhd.plugin import Event, Source, SourceConfig, SourceContext, hookimpl


class SampleConfig(SourceConfig):
    """The table of a sample."""

    count: int = 3


class Sample(Source[SampleConfig]):
    """Commits the numbers up to ``count``, each once in its life."""

    kind = "sample"
    api = 1

    async def run(self, context: SourceContext) -> None:
        for number in range(context.cursor or 0, self.config.count):
            await context.commit([Event(number, id=number)], cursor=number + 1)
        await anyio.sleep_forever()


@hookimpl
def lhd_sources() -> list[type[Source[Any]]]:
    return [Sample]
