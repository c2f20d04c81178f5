"""Reads the bundle of one update: its head, then what the slot lacks of it, in as few requests and bytes as the server allows."""

from collections.abc import Generator, Iterator, Sequence
from typing import Self

from packager.vehicle.core.missing import REQUEST_BYTES
from packager.vehicle.core.targets import BundleTarget
from packager.vehicle.errors import TemporaryError
from packager.vehicle.identity import Digest
from packager.vehicle.transport.fetch import BundleSource
from packager.vehicle.trust.metadata_store import NotFoundError


class BundleReader:
    """Reads a bundle: its head, then parts by ascending offset.

    With one request where all of it is needed; of a bundle that was begun before, nothing but what is asked for, and no head that was
    kept.
    """

    def __init__(
        self, source: BundleSource, bundle: BundleTarget, kept_head: bytes | None, *, is_resumed: bool
    ) -> None:
        self._source = source
        self._bundle = bundle
        self._kept_head = kept_head
        self._is_resumed = is_resumed
        self._stream: Generator[bytes, None, None] | None = None
        self._rest = b""
        self._offset = 0
        self.read_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def head(self) -> bytes:
        """Return the head.

        Raises:
            NotFoundError: There is no such bundle.
            TemporaryError: It can't be had now.
        """
        length_bytes = self._bundle.head.length_bytes
        if self._kept_head is not None:
            self._offset = length_bytes
            return self._kept_head
        if self._is_resumed:
            found = self._source.read(self._bundle.path, 0, length_bytes)
            self.read_bytes += len(found)
            self._offset = length_bytes
            return found
        self._open(0, self._bundle.length_bytes)
        return b"".join(chunk for _, chunk in self.chunks(0, length_bytes))

    def is_served(self) -> bool:
        """Tell whether the repository has the bundle; a head that was kept does not say so.

        Raises:
            TemporaryError: It can't be told now.
        """
        if self._kept_head is None:
            return True
        try:
            found = self._source.read(self._bundle.path, 0, self._bundle.head.length_bytes)
        except NotFoundError:
            return False
        self.read_bytes += len(found)
        return Digest.of(found) == self._bundle.head.digest

    def chunks_of(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of ascending ranges, each chunk with its offset; with those between them, once asking for each would cost more.

        Raises:
            TemporaryError: They can't be had now.
        """
        for start, end in ranges:
            if not self._source.serves_ranges:
                yield from self.chunks(start, ranges[-1][1])
                return
            yield from self.chunks(start, end)

    def chunks(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes `start` to `end`, each chunk with its offset.

        Raises:
            TemporaryError: They can't be had now.
        """
        if self._stream is None or start - self._offset > max(len(self._rest), REQUEST_BYTES):
            self._open(start, end)
        while self._offset < start:
            self._take(start)
        while self._offset < end:
            yield self._offset, self._take(end)

    def _open(self, start: int, end: int) -> None:
        if self._stream is not None:
            self._stream.close()
        self._rest, self._offset = b"", start
        self._stream = self._source.stream(self._bundle.path, start, end)

    def _take(self, end: int) -> bytes:
        """Return some of the next bytes, none behind `end`."""
        assert self._stream is not None  # noqa: S101 - opened by the callers
        chunk = self._rest
        if not chunk:
            chunk = next(self._stream, b"")
            self.read_bytes += len(chunk)
        if not chunk:
            raise TemporaryError(f"{self._bundle.path}: ended at byte {self._offset}, expected {end}")
        taken, self._rest = chunk[: end - self._offset], chunk[end - self._offset :]
        self._offset += len(taken)
        return taken
