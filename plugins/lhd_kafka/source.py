"""The Kafka source: one run for each connection's life, and what begins the next one."""

import logging
from collections.abc import Mapping

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lhd.plugin import ConfigError, Event, Sent, Source, SourceContext, Transient
from lhd_kafka.clients import closing
from lhd_kafka.cluster import FAULT_S, Client, connect
from lhd_kafka.config import KafkaConfig
from lhd_kafka.converters import Converter
from lhd_kafka.pace import Stalled
from lhd_kafka.reading import Changed, Reading, require_budget
from lhd_kafka.records import Events, tombstone
from lhd_kafka.registry import SchemaMissing
from lhd_kafka.security import client_options

_REBUILDS_MAX = 3
_RECONNECT_S = 1.0


class Kafka(Source[KafkaConfig]):
    """Reads topics."""

    kind = "kafka"
    api = 1
    client: Client
    converter: Converter

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config)
        self.budget = config.poison.counter()

    def prepare(self) -> None:
        """Read secrets, certificates and schemas."""
        if not logging.getLogger().isEnabledFor(logging.DEBUG):
            # It logs each attempt to reach a broker; the source says once what the matter is.
            logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        config = self.config
        self.client = Client(config, client_options(config.tls, config.sasl))
        self.converter = Converter(
            config.format, config.registry, config.schema_file, config.message, framed=config.framed
        )

    async def run(self, context: SourceContext) -> None:
        """Read until cancelled."""
        if not await context.positions(limit=1):
            self.budget = self.config.poison.counter()
        require_budget(self.budget, self.config)
        context.report(f"connecting to {', '.join(self.config.brokers)}")
        stalls: list[Stalled] = []
        async with connect(self.client) as cluster:
            while True:
                events = Events(self.config, self.converter, context.epoch)
                try:
                    await Reading(context, self.client, cluster, events, self.budget).run()
                except Changed:
                    context.log.info("partitions have come or gone")
                except Stalled as stalled:
                    stalls = [*(one for one in stalls if one.place == stalled.place), stalled]
                    self._rebuild(context, stalls)
                    await anyio.sleep(_RECONNECT_S)

    def _rebuild(self, context: SourceContext, stalls: list[Stalled]) -> None:
        """Say that the connection is made anew because of a stall; raises Transient where that has not helped."""
        stalled = stalls[-1]
        context.count("rebuilds")
        context.report(str(stalled))
        context.log.warning("no records come, connecting anew", cause=str(stalled), times=len(stalls))
        if len(stalls) >= _REBUILDS_MAX:
            text = f"the broker has records that do not come, after {len(stalls)} new connections: {stalled}"
            raise Transient(text, FAULT_S)

    def decode(self, raw: bytes, headers: Mapping[str, str | None], query: Mapping[str, str]) -> list[Event]:  # noqa: ARG002
        """The event of a record with this value and these headers; no bytes stand for a tombstone."""
        if raw == b"" and self.config.format not in ("text", "bytes", "protobuf"):
            poison, unwanted = tombstone(self.config)
            return [Event(None, headers=headers, raw=raw, poison=poison, unwanted=unwanted)]
        try:
            body = self.converter.convert(raw, headers)
        except SchemaMissing as missing:
            raise ValueError(f"its schema {missing.schema_id} is not known until the source has read it") from None
        return [Event(body, headers=headers, raw=raw)]

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> Sent:  # noqa: ARG002
        """Produce a record to the first topic."""
        if not self.config.topics:
            raise ConfigError("pattern", "a source with a pattern has no one topic to send to")
        topic = self.config.topics[0]
        producer = AIOKafkaProducer(**self.client.options)
        async with closing(producer):
            try:
                await producer.start()
                sent = await producer.send_and_wait(
                    topic, raw, headers=[(name, value.encode()) for name, value in headers.items()], timestamp_ms=now_ms
                )
            except KafkaError as error:
                raise await self.client.unreachable() from error
        return Sent(f"{topic}/{sent.partition}, offset {sent.offset}")
