"""Protobuf, with a message of a FileDescriptorSet."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

from lhd.plugin import ConfigError, Undecodable
from lhd_kafka.registry import unframe


class Protobuf:
    """Protobuf, with a message of a FileDescriptorSet; a schema id and message indexes before it are skipped."""

    def __init__(self, schema: bytes, message: str, *, framed: bool) -> None:
        """With the contents of a file. Raises ConfigError."""
        files = descriptor_pb2.FileDescriptorSet()
        pool = descriptor_pool.DescriptorPool()
        try:
            files.ParseFromString(schema)
            for file in files.file:
                pool.Add(file)
            descriptor = pool.FindMessageTypeByName(message)
        except (DecodeError, TypeError) as error:
            text = f"this is no FileDescriptorSet: {type(error).__name__}"
            raise ConfigError("schema_file", text, "write it with protoc --include_imports -o FILE") from error
        except KeyError as error:
            raise ConfigError("message", f"the schema_file has no message '{message}'") from error
        self._class: type[Message] = message_factory.GetMessageClass(descriptor)
        self._pool = pool
        self._framed = framed

    def convert(self, data: bytes) -> Any:
        """The value of a record, with names as in the .proto. Raises Undecodable."""
        if self._framed:
            data = _skip_indexes(unframe(data)[1])
        try:
            message = self._class.FromString(data)
        except DecodeError:
            raise Undecodable(f"it is no {self._class.DESCRIPTOR.full_name}") from None
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self._pool)


def _skip_indexes(data: bytes) -> bytes:
    """What follows the message indexes: a zigzag varint counts them, 0 stands for the one index 0."""
    count, data = _zigzag(data)
    for _ in range(count):
        _, data = _zigzag(data)
    return data


def _zigzag(data: bytes) -> tuple[int, bytes]:
    value = 0
    for number, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), data[number + 1 :]
    raise Undecodable("it has no message indexes after its schema id")
