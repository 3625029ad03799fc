"""The table of a Kafka source."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from lhd.plugin import Model, SourceConfig
from lhd_kafka.budget import Budget, parse_budget
from lhd_kafka.converters import Format
from lhd_kafka.registry import Registry
from lhd_kafka.security import Sasl, Tls, is_loopback


def _broker(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("write a broker as host:port, kafka.example.com:9092 for instance")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return text


def _budget(text: str) -> str:
    parse_budget(text)
    return text


class StartAt(Model):
    """``start`` by time."""

    timestamp: datetime = Field(description="Begin with the first record of this time or later; with its offset.")

    @model_validator(mode="after")
    def _has_offset(self) -> "StartAt":
        if self.timestamp.tzinfo is None:
            raise ValueError("write the time with its offset, as 2026-01-31T00:00:00Z")
        if self.timestamp.timestamp() < 0:
            raise ValueError("records have no times before 1970")
        return self


class Poison(Model):
    """How many dead letters are borne."""

    budget: Annotated[str, AfterValidator(_budget)] = Field(
        "1% / 10m", description="The share of records that may be dead, within a time; beyond it the source faults."
    )
    allowance: int = Field(10, ge=0, description="So many may be dead in that time whatever their share is.")

    def counter(self) -> Budget:
        """A count of the records that come."""
        share, window_s = parse_budget(self.budget)
        return Budget(share, window_s, self.allowance)


class KafkaConfig(SourceConfig):
    """``kind = "kafka"``."""

    brokers: tuple[Annotated[str, AfterValidator(_broker)], ...] = Field(
        strict=False, description="Where the cluster is asked for first: host:port."
    )
    topics: tuple[str, ...] = Field((), strict=False, description="The topics to read; or pattern.")
    pattern: Annotated[str, AfterValidator(_pattern)] | None = Field(
        None, description="Read every topic whose whole name is matched by this regular expression."
    )
    start: Literal["earliest", "latest"] | StartAt = Field(
        "earliest", description="Where a topic is begun that the store has no position of: earliest, latest, a time."
    )
    mode: Literal["assign", "group"] = Field(
        "assign", description="assign: this daemon reads every partition; group: those that the group gives it."
    )
    group: str | None = Field(
        None, min_length=1, description="The consumer group that progress is reported under; lhd-NAME otherwise."
    )
    format: Format = Field("json", description="What the values of records are.")
    registry: Registry | None = Field(None, description="The schema registry, for avro.")
    schema_file: str | None = Field(
        None, description="Of avro the schema of unframed values, of protobuf a FileDescriptorSet (protoc -o)."
    )
    message: str | None = Field(None, description="Of protobuf the full name of the message.")
    framed: bool = Field(True, description="Of protobuf: each value begins with a schema id, as registries frame it.")
    tombstone: Literal["filter", "null", "dead"] = Field(
        "filter", description="A record without a value: only note it, show routes a null body, or a dead letter."
    )
    on_gap: Literal["fault", "earliest", "latest"] = Field(
        "fault", description="Records were deleted before they were read: fault, or go on at the first or the last one."
    )
    poison: Poison = Field(Poison(), description="How many records may be dead before the source faults.")
    max_pending_bytes: int = Field(
        16_777_216, ge=65_536, description="Bytes of records that are fetched and not committed yet."
    )
    batch_records_max: int = Field(100, ge=1, le=500, description="Records in one transaction.")
    stall_s: float = Field(
        30, gt=0, strict=False, description="No record comes for so long while the broker has more: connect anew."
    )
    discover_s: float = Field(10, gt=0, strict=False, description="Time between looks for new partitions and topics.")
    request_timeout_s: float = Field(15, gt=0, strict=False, description="A broker that takes longer counts as away.")
    tls: Tls | None = Field(None, description="Connect over TLS; {} trusts the system's authorities.")
    sasl: Sasl | None = Field(None, description="How lhd says who it is.")
    insecure: bool = Field(False, description="Allow a password or token to be sent in the clear beyond loopback.")

    @field_validator("brokers")
    @classmethod
    def _some_broker(cls, brokers: tuple[str, ...]) -> tuple[str, ...]:
        if not brokers:
            raise ValueError("name at least one broker")
        return brokers

    @field_validator("start", mode="before")
    @classmethod
    def _start(cls, start: Any) -> Any:
        """One finding for a mistake, where pydantic would have one for each form that the value may have."""
        if isinstance(start, dict):
            try:
                return StartAt.model_validate(start)
            except ValidationError as error:
                raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if start not in ("earliest", "latest"):
            raise ValueError("write 'earliest', 'latest' or { timestamp = ... }")
        return start

    @model_validator(mode="after")
    def _complete(self) -> "KafkaConfig":
        if bool(self.topics) == (self.pattern is not None):
            raise ValueError("name either topics or a pattern")
        if len(set(self.topics)) < len(self.topics):
            raise ValueError("a topic is named twice")
        self._check_format()
        in_clear = self.sasl is not None and self.sasl.sends_secret and self.tls is None
        if in_clear and not self.insecure and not all(map(is_loopback, self.brokers)):
            raise ValueError("the secret of sasl would be sent in the clear; add tls, or say insecure = true")
        return self

    def _check_format(self) -> None:
        if self.format == "avro" and (self.registry is None) == (self.schema_file is None):
            raise ValueError("avro needs either registry or schema_file")
        if self.format == "protobuf" and (self.schema_file is None or self.message is None):
            raise ValueError("protobuf needs schema_file and message")
        if self.format != "avro" and self.registry is not None:
            raise ValueError("registry is for avro")
        if self.format not in ("avro", "protobuf") and self.schema_file is not None:
            raise ValueError("schema_file is for avro and protobuf")
        if self.format != "protobuf" and self.message is not None:
            raise ValueError("message is for protobuf")
