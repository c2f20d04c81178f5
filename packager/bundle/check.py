"""Applies bundles from files with the vehicle's own code: the self-check before anything is signed, and `packager apply`."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from packager.vehicle.core.applier import Applier, VerifiedImage
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.head import Head, SignedHead, read_head
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.pull import apply_file
from packager.vehicle.errors import ResourceError
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.storage import FileOnDisk, StoredFile, sync_directory


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
        if head.manifest.in_place and old is not None:
            return _rebuild_in_place(head, stream, old, Path(directory))
        with FileOnDisk.open(Path(directory) / "slot", head.manifest.new.length_bytes) as slot:
            return apply_stream(head, stream, old, slot)


def _rebuild_in_place(head: Head, blobs: BinaryIO, old: Path, directory: Path) -> VerifiedImage:
    """Overwrite a copy of the old image, as the ECU will."""
    try:
        shutil.copyfile(old, directory / "slot")
        length_bytes = (directory / "slot").stat().st_size
    except OSError as error:
        raise ResourceError(f"{old}: can't be copied to {directory}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(FileOnDisk.open(directory / "slot", length_bytes))
        scratch = stack.enter_context(FileOnDisk.open(directory / "scratch", head.manifest.scratch_bytes))
        place = InPlaceSlot(head, slot, scratch, None)
        applier = stack.enter_context(Applier(head, OverwrittenImage(head, slot, scratch), slot, destination=place))
        return apply_file(applier, blobs)


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
        old_image: OldImage | None = None if old is None else stack.enter_context(FileOnDisk.open(old))
        return apply_file(stack.enter_context(Applier(head, old_image, slot)), blobs)


def open_bundle(path: Path) -> BinaryIO:
    """Open a bundle's file.

    Raises:
        ResourceError: It can't be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise ResourceError(f"{path}: can't be opened: {error.strerror}") from error
