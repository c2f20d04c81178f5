"""Applies bundles from files with the vehicle's own code: the self-check before anything is signed, and `packager apply`."""

import contextlib
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from packager.vehicle.applier import Applier, VerifiedImage
from packager.vehicle.blocks import NoOldImage, OldImage
from packager.vehicle.errors import ResourceError
from packager.vehicle.head import Head, SignedHead, read_head
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.storage import FileOnDisk, StoredFile, sync_directory

_CHUNK_BYTES: Final = 1 << 18


def rebuild(bundle: Path, signed: SignedHead, profile: UpdateProfile, old: Path | None, scratch: Path) -> VerifiedImage:
    """Apply `bundle` to `old` in a temporary slot and return what came out.

    Args:
        bundle: The bundle's file.
        signed: What metadata says, or will say, of its head.
        profile: Limits of the ECU.
        old: The old image's file; None for a full bundle.
        scratch: Directory for the slot, which is removed afterwards.

    Raises:
        CorruptError: The bundle does not make its new image.
        IncompatibleError: It exceeds the profile, or `old` is another image.
        ResourceError: A file can't be read or written.
    """
    with open_bundle(bundle) as stream, tempfile.TemporaryDirectory(dir=scratch, prefix="slot-") as directory:
        head = read_head(stream.read(signed.length_bytes), signed, profile)
        with FileOnDisk.open(Path(directory) / "slot", head.manifest.new.length_bytes) as slot:
            return apply_stream(head, stream, old, slot)


def apply_to_file(bundle: Path, head: Head, old: Path | None, new: Path) -> VerifiedImage:
    """Apply a bundle's blobs; `new` appears only when it is complete and verified (temporary file, sync, rename).

    Raises:
        CorruptError: The bundle does not make its new image.
        IncompatibleError: `old` is another image.
        ResourceError: A file can't be read or written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=new.absolute().parent, prefix=f".{new.name}-") as directory:
            temporary = Path(directory) / "slot"
            with open_bundle(bundle) as stream, FileOnDisk.open(temporary, head.manifest.new.length_bytes) as slot:
                verified = apply_stream(head, stream, old, slot)
            temporary.replace(new)
            sync_directory(new.absolute().parent)
    except OSError as error:
        raise ResourceError(f"{new}: can't be written: {error.strerror}") from error
    return verified


def apply_stream(head: Head, blobs: BinaryIO, old: Path | None, slot: StoredFile) -> VerifiedImage:
    """Feed the rest of a bundle, from the end of its head on, to an applier.

    Raises:
        CorruptError: The bundle does not make its new image.
        IncompatibleError: `old` is another image.
        ResourceError: A file can't be read or written.
    """
    with contextlib.ExitStack() as stack:
        old_image: OldImage = NoOldImage() if old is None else stack.enter_context(FileOnDisk.open(old))
        applier = stack.enter_context(Applier(head, old_image, slot))
        blobs.seek(applier.next_offset)
        while chunk := blobs.read(_CHUNK_BYTES):
            applier.feed(chunk)
        return applier.finish()


def open_bundle(path: Path) -> BinaryIO:
    """Open a bundle's file.

    Raises:
        ResourceError: It can't be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise ResourceError(f"{path}: can't be opened: {error.strerror}") from error
