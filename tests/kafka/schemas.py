"""A schema registry on loopback, what its framing is, and a FileDescriptorSet: what producers with schemas have."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from tests.e2e.process import free_port

USER, PASSWORD = "lhd", "registry secret"


class Registry:
    """Answers for ids, and versions of subjects, as Confluent's and compatible ones do, and only to its user."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.asked: list[str] = []
        self._answers: dict[str, Any] = {}

    def add(self, number: int, schema: Any, *references: tuple[str, str, int]) -> None:
        """Have a schema under an id; it may refer to others by name, subject and version."""
        self._add(f"/schemas/ids/{number}", schema, references)

    def add_version(self, subject: str, version: int, schema: Any, *references: tuple[str, str, int]) -> None:
        """Have a schema as the version of a subject."""
        self._add(f"/subjects/{quote(subject, safe='')}/versions/{version}", schema, references)

    def _add(self, path: str, schema: Any, references: Sequence[tuple[str, str, int]]) -> None:
        fields = [dict(zip(("name", "subject", "version"), one, strict=True)) for one in references]
        self._answers[path] = {"schema": json.dumps(schema)} | ({"references": fields} if fields else {})

    @contextmanager
    def up(self) -> Iterator[None]:
        """The registry answers."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry._answer(self)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            yield
            server.shutdown()
            thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path = request.path.partition("?")[0]
        if request.headers.get("Authorization") != f"Basic {credentials}":
            status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
        elif path not in self._answers:
            status, answer = 404, {"error_code": 40403, "message": "Schema not found"}
        else:
            self.asked.append(path)
            status, answer = 200, self._answers[path]
        content = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def framed(number: int, value: bytes) -> bytes:
    """A value with a registry's framing: a zero, the id of its schema, itself."""
    return b"\x00" + number.to_bytes(4, "big") + value


def avro(schema: Any, value: Any) -> bytes:
    """Avro without framing, as fastavro writes it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """``audit.proto``: a message Other and a message Entry, which has a message Part in it, and imports a file."""
    field = descriptor_pb2.FieldDescriptorProto
    base = descriptor_pb2.FileDescriptorProto(name="base.proto", package="base", syntax="proto3")
    base.message_type.add(name="Who").field.add(name="name", number=1, type=field.TYPE_STRING, label=1)
    file = descriptor_pb2.FileDescriptorProto(name="audit.proto", package="audit", syntax="proto3")
    file.dependency.append("base.proto")
    file.message_type.add(name="Other").field.add(name="flag", number=1, type=field.TYPE_BOOL, label=1)
    entry = file.message_type.add(name="Entry")
    entry.field.add(name="subject", number=1, type=field.TYPE_STRING, label=1)
    entry.field.add(name="amount", number=2, type=field.TYPE_DOUBLE, label=1)
    entry.field.add(name="who", number=3, type=field.TYPE_MESSAGE, type_name=".base.Who", label=1)
    entry.field.add(name="tags", number=4, type=field.TYPE_STRING, label=3)
    entry.nested_type.add(name="Part").field.add(name="size", number=1, type=field.TYPE_INT32, label=1)
    return descriptor_pb2.FileDescriptorSet(file=[base, file])


def message(name: str, **fields: Any) -> Message:
    """A message of :func:`descriptors`."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors().file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(**fields)
