"""The file drop source: opens its folder, and takes files until it is stopped."""

import io
from collections.abc import Mapping
from typing import Any

from anyio.to_thread import run_sync

from lhd.plugin import Event, Sent, Source, SourceContext, Transient
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents
from lhd_filedrop.events import text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Busy, Folder, Taken
from lhd_filedrop.readiness import allow_probes
from lhd_filedrop.records import Place, Record
from lhd_filedrop.taking import Taking, folder_error, told


class FileDrop(Source[FileDropConfig]):
    """Takes files out of a folder."""

    kind = "filedrop"
    api = 1
    contents: Contents
    _taking: Taking | None = None

    def prepare(self) -> None:
        """See that what the format needs is installed."""
        self.contents = Contents(self.config)

    async def run(self, context: SourceContext) -> None:
        """Take files until cancelled."""
        allow_probes()
        folder = Folder(self.config, context.name)
        try:
            await run_sync(folder.open)
            self._taking = Taking(context, self.config, folder, self.contents)
            await self._taking.run()
        except Busy:
            text = f"another process takes files out of {self.config.path} for a source of this name"
            raise Transient(text, self.config.scan_s) from None
        except OSError as error:
            raise folder_error(error, self.config) from error
        finally:
            self._taking = None
            folder.close()

    def decode(self, raw: bytes, headers: Mapping[str, str | None], query: Mapping[str, str]) -> list[Event]:  # noqa: ARG002
        """The events of a file, or of a record, with these bytes."""
        try:
            if self.config.unit == "file":
                records = self.contents.whole(raw)
            else:
                records = list(self.contents.records(io.BytesIO(raw), Place()))
        except Failed as failed:
            raise ValueError(str(failed)) from None
        return [_event(record) for record in records]

    async def bring_back(self, attributes: Mapping[str, Any]) -> bool:
        """Take a failed file once more, as it is now, under the claim that it had."""
        part = attributes.get("meta", {}).get("claim")
        is_record = self.config.unit == "record" and "record" in attributes
        if not isinstance(part, str) or part.startswith("/") or is_record or self._taking is None:
            return False
        file = Taken.of_part(part)
        try:
            is_back = await run_sync(self._taking.folder.bring_back, file)
        except OSError as error:
            raise ValueError(f"it cannot be put back: {told(error)}") from error
        if is_back:
            self._taking.resume(file)
        return is_back

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> Sent:  # noqa: ARG002
        """Drop a file: under a temporary name first, as a careful writer does."""
        name = headers.get("name", f"sent-{now_ms}.{_SUFFIX.get(self.config.format, self.config.format)}")
        path = self.config.path / name
        try:
            await run_sync(_drop, self.config, raw, name)
        except OSError as error:
            raise Transient(told(error)) from error
        return Sent(f"dropped {text(bytes(path))}")


_SUFFIX = {"text": "txt", "bytes": "bin"}


def _drop(config: FileDropConfig, raw: bytes, name: str) -> None:
    temporary = config.path / f".{name}.tmp"
    temporary.write_bytes(raw)
    temporary.rename(config.path / name)
    if config.ready == "marker":
        (config.path / (name + config.marker_suffix)).touch()


def _event(record: Record) -> Event:
    return Event(
        record.value,
        record={"index": record.place.index, "line": record.place.line},
        raw=record.head + record.raw,
        poison=record.poison,
    )
