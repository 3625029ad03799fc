"""Compressed files as streams of their contents, in bounded memory; one that ends too early is an error."""

import gzip
import io
import os
import zlib
from typing import IO, Any

import zstandard

from lhd_filedrop.failed import Failed

_BUFFER_BYTES = 1_048_576
_ZSTD_PIECE_BYTES = 512
"""Each can become at most some 128 blocks of 128 KiB."""
_ZSTD_WINDOW_BYTES_MAX = 8_388_608
"""What RFC 8878 recommends every decoder to allow, and no more."""
_SUFFIXES = {b".gz": "gzip", b".zst": "zstd"}


def compression(name: bytes) -> str | None:
    """How a file of this name is compressed, None where it is not."""
    return _SUFFIXES.get(os.path.splitext(name)[1])


def opened(handle: int, kind: str | None, most: int) -> IO[bytes]:
    """The contents of an open file, which is closed with the stream; ``kind`` is its compression.

    Reading raises Failed where the file is broken, or inflates to more than ``most`` bytes.
    """
    file = os.fdopen(handle, "rb", buffering=_BUFFER_BYTES)
    if kind is None:
        return file
    inner: Any = gzip.GzipFile(fileobj=file) if kind == "gzip" else _Zstd(file)
    return io.BufferedReader(_Inflated(inner, file, kind, most), _BUFFER_BYTES)


class _Inflated(io.RawIOBase):
    """Counts what comes, and tells every way in which a file is broken as one."""

    def __init__(self, inner: Any, file: IO[bytes], kind: str, most: int) -> None:
        self._inner = inner
        self._file = file
        self._kind = kind
        self._most = self._left = most
        self._failed: Failed | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill all of the buffer: whoever peeks is given no more than one call brings. What is good comes first."""
        taken = 0
        while taken < len(buffer) and self._failed is None and (piece := self._piece(len(buffer) - taken)):
            buffer[taken : taken + len(piece)] = piece
            taken += len(piece)
        if self._failed is not None and not taken:
            raise self._failed
        return taken

    def _piece(self, size: int) -> bytes:
        piece = b""
        try:
            piece = self._inner.read(size)
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError):
            self._failed = Failed(f"it is not {self._kind}")
        except EOFError:
            self._failed = Failed(f"it is {self._kind} that ends too early")
        if len(piece) > self._left:
            self._failed = Failed(f"it has more than {self._most} bytes when it is inflated")
        piece = piece[: self._left]
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()


class _Zstd:
    """Frames of zstd one after the other; zstandard's own reader takes one that is cut off for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._frame: Any = None
        self._pending = b""
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        while not self._ready:
            piece = self._pending or self._file.read(_ZSTD_PIECE_BYTES)
            self._pending = b""
            if not piece:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._ready += self._frame.decompress(piece)
            if self._frame.eof:
                self._pending = self._frame.unused_data
                self._frame = None
        piece = bytes(self._ready[:size])
        del self._ready[:size]
        return piece
