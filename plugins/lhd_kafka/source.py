"""The Kafka source: one run for each connection's life, and what begins the next one."""

import logging
from collections.abc import Mapping

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lhd.plugin import ConfigError, Event, Sent, Source, SourceContext, Transient
from lhd_kafka.cluster import FAULT_S, Client, connect
from lhd_kafka.config import KafkaConfig
from lhd_kafka.converters import Converter, SchemaMissing
from lhd_kafka.reading import Changed, Reading, Stalled, require_budget
from lhd_kafka.records import Events, tombstone
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
        rebuilds = 0
        require_budget(self.budget, self.config)
        context.report(f"connecting to {', '.join(self.config.brokers)}")
        async with connect(self.client) as cluster:
            while True:
                reading = Reading(
                    context, self.client, cluster, Events(self.config, self.converter, context.epoch), self.budget
                )
                try:
                    await reading.run()
                except Changed:
                    context.log.info("there are new partitions")
                    continue
                except Stalled as stalled:
                    rebuilds = 1 if reading.moved else rebuilds + 1
                    context.count("rebuilds")
                    context.log.warning("no records come, connecting anew", cause=str(stalled), times=rebuilds)
                    if rebuilds >= _REBUILDS_MAX:
                        text = f"the broker has records that do not come, after {rebuilds} new connections: {stalled}"
                        raise Transient(text, FAULT_S) from stalled
                    context.report(str(stalled))
                    await anyio.sleep(_RECONNECT_S)

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
        try:
            await producer.start()
            sent = await producer.send_and_wait(
                topic, raw, headers=[(name, value.encode()) for name, value in headers.items()], timestamp_ms=now_ms
            )
        except KafkaError as error:
            raise await self.client.unreachable(error) from error
        finally:
            await producer.stop()
        return Sent(f"{topic}/{sent.partition}, offset {sent.offset}")
