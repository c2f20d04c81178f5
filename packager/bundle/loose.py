"""Loose bundles: files without signed metadata, which vouch only for themselves.

`LooseBundle` reads the head's identity from the bundle itself, so nothing about it is authenticated. The vehicle has no such type: its
heads come from signed metadata alone, and it can't import this package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.bundle.check import open_bundle
from packager.vehicle.core.head import (
    MAX_HEAD_BYTES,
    MAX_SECTIONS,
    PREAMBLE_BYTES,
    SECTION_ENTRY_BYTES,
    Head,
    SignedHead,
    head_length_bytes,
    read_head,
)
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest
from packager.vehicle.profile import Coder, UpdateProfile

ANY_PROFILE: Final = UpdateProfile(ram_bytes=1 << 40, coders=frozenset(Coder), scratch_bytes=1 << 40)
"""For a computer that checks bundles of any ECU."""
_TABLE_BYTES: Final = PREAMBLE_BYTES + MAX_SECTIONS * SECTION_ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class LooseBundle:
    """A bundle that nobody vouches for.

    Attributes:
        path: Its file.
        head: Its head, consistent in itself.
    """

    path: Path
    head: Head

    @classmethod
    def open(cls, path: Path, profile: UpdateProfile) -> "LooseBundle":
        """Read the head of a file.

        Args:
            path: The bundle's file.
            profile: Limits that it must stay under.

        Raises:
            CorruptError: Not a bundle, or damaged.
            IncompatibleError: It exceeds the profile, or needs a newer reader.
            ResourceError: It can't be read.
        """
        with naming(path):
            return cls(path, read_head(read_head_bytes(path), self_signed(path), profile))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in errors of a bundle which one it is: the vehicle's, which has one at a time, do not."""
    try:
        yield
    except (CorruptError, IncompatibleError) as error:
        raise type(error)(f"{path}: {error}") from error


def self_signed(path: Path) -> SignedHead:
    """Return the identity of a head as the file itself has it: what the packager signs of its own bundles, and no proof of anything."""
    head = read_head_bytes(path)
    return SignedHead(len(head), Digest.of(head))


def read_head_bytes(path: Path) -> bytes:
    """Read the bytes of a bundle's head.

    Raises:
        CorruptError: Not a bundle, or cut short.
        ResourceError: It can't be read.
    """
    with open_bundle(path) as stream:
        length_bytes = head_length_bytes(stream.read(_TABLE_BYTES))
        if length_bytes > MAX_HEAD_BYTES:
            raise CorruptError(f"head of {length_bytes} bytes, expected at most {MAX_HEAD_BYTES}")
        stream.seek(0)
        head = stream.read(length_bytes)
    if len(head) != length_bytes:
        raise CorruptError(f"ends at byte {len(head)}, expected a head of {length_bytes} bytes; it is cut short")
    return head
