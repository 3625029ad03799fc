"""The file drop source: opens its folder, and takes files until it is stopped."""

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
from anyio.to_thread import run_sync

from lhd.plugin import ConfigError, Event, Sent, Source, SourceContext, Transient
from lhd_filedrop.alarm import file_system
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents, buffered, read_all
from lhd_filedrop.events import record_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Busy, Folder, State, Taken
from lhd_filedrop.inflating import compression, opened
from lhd_filedrop.outcomes import folder_error, told
from lhd_filedrop.positions import Facts
from lhd_filedrop.readiness import allow_probes
from lhd_filedrop.records import Place
from lhd_filedrop.taking import Taking

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileDrop(Source[FileDropConfig]):
    """Takes files out of a folder."""

    kind = "filedrop"
    api = 1
    contents: Contents
    _retrying: anyio.Lock
    """Held while a retry moves a file, so that the folder stays open."""
    _taking: Taking | None = None

    def prepare(self) -> None:
        """See that what the format needs is installed."""
        self.contents = Contents(self.config)
        self._retrying = anyio.Lock()

    async def run(self, context: SourceContext) -> None:
        """Take files until cancelled."""
        allow_probes()
        folder = Folder(self.config, context.name)
        try:
            await run_sync(folder.open)
            kind = await run_sync(file_system, self.config.path)
            taking = Taking(context, self.config, folder, self.contents, kind)
            try:
                await taking.prepare()
                self._taking = taking
                await taking.run()
            finally:
                taking.close()
        except Busy:
            busy = f"another process takes files out of {self.config.path} for a source of this name"
            raise Transient(busy, self.config.scan_s) from None
        except OSError as error:
            raise folder_error(error, self.config) from error
        finally:
            with anyio.CancelScope(shield=True):
                async with self._retrying:
                    self._taking = None
                    folder.close()

    def decode(self, raw: bytes, headers: Mapping[str, str | None], query: Mapping[str, str]) -> list[Event]:  # noqa: ARG002
        """The events of a file, or of a record, with these bytes; the header ``name`` may say its name."""
        file = Taken("", os.fsencode(headers.get("name") or f"example.{self._suffix}"))
        facts = Facts(len(raw), 0, hashlib.sha256(raw).hexdigest(), State(0, len(raw), 0, 0))
        try:
            contents = self._inflated(raw, file.name)
            if self.config.unit == "file":
                records = self.contents.whole(contents)
            else:
                records = list(self.contents.records(buffered(contents), Place()))
        except Failed as failed:
            raise ValueError(str(failed)) from None
        unit = self.config.unit
        return [
            replace(record_event(file, facts, record, self.config, unit=unit), id=None, meta={}) for record in records
        ]

    async def bring_back(self, attributes: Mapping[str, Any]) -> bool:
        """Take a failed file once more, as it is now, under the claim that it had, or where it was left."""
        meta = attributes.get("meta", {})
        if "claim" not in meta or meta.get("unit") == "record":
            return False
        file = Taken.of_part(meta["claim"])
        async with self._retrying:
            taking = self._taking
            if taking is None:
                raise ValueError("the source does not run just now, see lhd status; try again when it does")
            try:
                if await taking.bring_back(file):
                    return True
                if not file.claim:
                    return False
                is_claimed = await taking.is_claimed(file)
            except OSError as error:
                raise ValueError(f"it cannot be put back: {told(error)}") from error
        if is_claimed:
            raise ValueError("its file is claimed, and is read or moved before long, see lhd status; try again then")
        raise ValueError("its file is not in failed any more; if nobody wants it back, say: lhd dead drop")

    async def send(self, raw: bytes, headers: Mapping[str, str], now_ms: int, http: str) -> Sent:  # noqa: ARG002
        """Drop a file: under a temporary name first, as a careful writer does."""
        name = headers.get("name", f"sent-{now_ms}.{self._suffix}")
        if "/" in name or "\0" in name or name.startswith("."):
            raise ConfigError("name", "the name of a file to drop has no slash, and does not begin with a dot")
        try:
            await run_sync(self._drop, raw, name)
        except OSError as error:
            raise Transient(f"it cannot be dropped: {told(error)}") from error
        return Sent(f"dropped {text(os.fsencode(self.config.path / name))}")

    def _inflated(self, raw: bytes, name: bytes) -> bytes:
        """The contents of a file that its name says is compressed, no more than fit into memory. Raises Failed."""
        kind = compression(name)
        if kind not in self.config.decompress:
            return raw
        handle = os.memfd_create("lhd")
        os.write(handle, raw)
        os.lseek(handle, 0, os.SEEK_SET)
        with opened(handle, kind, self.config.contents_bytes_max(by_record=False)) as stream:
            return read_all(stream, None)

    @property
    def _suffix(self) -> str:
        return {"text": "txt", "bytes": "bin"}.get(self.config.format, self.config.format)

    def _drop(self, raw: bytes, name: str) -> None:
        folder = os.open(self.config.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            hidden = f".{secrets.token_hex(8)}"
            file = os.fdopen(os.open(hidden, _NEW, 0o666, dir_fd=folder), "wb")
            try:
                with file:
                    file.write(raw)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                raise OSError(error.errno, error.strerror, name) from error
            finally:
                os.unlink(hidden, dir_fd=folder)
            if self.config.ready == "marker":
                with suppress(FileExistsError):
                    os.close(os.open(name + self.config.marker_suffix, _NEW, 0o666, dir_fd=folder))
        finally:
            os.close(folder)
