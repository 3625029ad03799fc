"""Records as events: their identity, key and headers, and the value that the source's format says."""

from collections.abc import Callable, Mapping

from aiokafka import TopicPartition

from lhd.plugin import Event, Transient, Undecodable
from lhd_kafka.config import KafkaConfig
from lhd_kafka.converters import Converter
from lhd_kafka.positions import Record
from lhd_kafka.registry import SchemaMissing


def text_or_bytes(data: bytes | None) -> str | bytes | None:
    """A key as routes see it: text where it is UTF-8."""
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return data


def headers_of(record: Record) -> dict[str, str | None]:
    """The headers by their names in lower case; values of one name are joined, and what is no UTF-8 is Latin-1."""
    headers: dict[str, str | None] = {}
    for name, data in record.headers:
        name, value = name.lower(), _header(data)
        before = headers.get(name)
        headers[name] = value if before is None else before if value is None else f"{before}, {value}"
    return headers


def _header(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


class Events:
    """Makes the events of a source; ``epoch`` tells that of a topic."""

    def __init__(self, config: KafkaConfig, converter: Converter, epoch: Callable[[str], int]) -> None:
        self._config = config
        self._converter = converter
        self._epoch = epoch

    async def of(self, record: Record) -> Event:
        """The event of a record; poison where it cannot be read. Raises Transient where its schema cannot be had."""
        headers = headers_of(record)
        body, poison, unwanted = None, "", ""
        if record.value is None:
            poison, unwanted = tombstone(self._config)
        else:
            try:
                body = await self._convert(record.value, headers)
            except Undecodable as error:
                poison = str(error)
            except Transient:
                raise
            except Exception as error:  # noqa: BLE001 - one record must not stop its partition, whatever a library does
                poison = f"it cannot be read ({type(error).__name__})"
        return Event(
            body,
            id=(record.topic, self._epoch(record.topic), record.partition, record.offset),
            headers=headers,
            key=text_or_bytes(record.key),
            meta={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": record.timestamp,
            },
            raw=None if poison and record.value is None else record.value or b"",
            poison=poison,
            unwanted=unwanted,
        )

    async def _convert(self, value: bytes, headers: Mapping[str, str | None]) -> object:
        try:
            return self._converter.convert(value, headers)
        except SchemaMissing as missing:
            assert self._converter.fetch is not None
            await self._converter.fetch(missing.schema_id)
            return self._converter.convert(value, headers)

    def gap(self, partition: TopicPartition, first: int, left: int) -> Event:
        """The event that stands for records that nobody can read any more, from ``first`` to before ``left``."""
        name, number = partition
        return Event(
            None,
            id=("gap", name, self._epoch(name), number, first, left),
            meta={"topic": name, "partition": number, "offset": first},
            poison=f"records {first} to {left - 1} of {name}/{number} were passed over: some were deleted unread",
        )

    def unreadable(self, partition: TopicPartition, offset: int, cause: str) -> Event:
        """The event of a record whose bytes make no record."""
        name, number = partition
        return Event(
            None,
            id=(name, self._epoch(name), number, offset),
            meta={"topic": name, "partition": number, "offset": offset},
            poison=f"the record at offset {offset} of {name}/{number} cannot be read ({cause})",
        )


def tombstone(config: KafkaConfig) -> tuple[str, str]:
    """What a record without a value is, as the poison and the unwanted of an event."""
    reason = "it has no value (a tombstone)"
    return {"filter": ("", reason), "null": ("", ""), "dead": (reason, "")}[config.tombstone]


def size_of(record: Record) -> int:
    """The bytes of a record."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers
