"""What identifies an image: its exact length and its digest, which always travels with its algorithm."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Self

SHA256 = "sha256"
DIGEST_BYTES = 32
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 digest.

    Attributes:
        value: 32 bytes.
        algorithm: Always ``sha256`` in format version 1.
    """

    value: bytes
    algorithm: str = SHA256

    def __post_init__(self) -> None:
        if self.algorithm != SHA256 or len(self.value) != DIGEST_BYTES:
            raise ValueError(f"digest: found {self.algorithm} of {len(self.value)} bytes, expected sha256 of 32 bytes")

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Hash `data`."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Parse 64 lower-case hexadecimal digits.

        Raises:
            ValueError: `text` is anything else.
        """
        if len(text) != 2 * DIGEST_BYTES or text != text.lower():
            raise ValueError(f"digest: found {text!r}, expected 64 lower-case hexadecimal digits")
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """64 lower-case hexadecimal digits."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class ImageId:
    """The identity of an image: exact length in bytes and digest."""

    length_bytes: int
    digest: Digest

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Identify an image held in memory."""
        return cls(len(data), Digest.of(data))

    @classmethod
    def of_stream(cls, stream: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> Self:
        """Identify what is left of `stream` in bounded memory.

        Args:
            stream: Read from its position to its end.
            on_bytes: Told the number of bytes after each read.

        Raises:
            OSError: The stream can't be read.
        """
        hasher = hashlib.sha256()
        length_bytes = 0
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
            length_bytes += len(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
        return cls(length_bytes, Digest(hasher.digest()))

    def __str__(self) -> str:
        return f"{self.length_bytes} bytes, {self.digest}"
