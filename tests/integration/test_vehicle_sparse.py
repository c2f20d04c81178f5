"""Images beyond 2 and 4 GiB: sparse files through a real apply, so that no length or offset of 32 bits is left anywhere."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from packager.bundle.forms import Means, Place, copy_form, delta_form, fill_form
from packager.bundle.writer import Identity, write_bundle
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import Head, read_head
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder, UpdateProfile
from packager.vehicle.storage import FileOnDisk
from tests.sample_bundles import noise, sign

GIB = 1 << 30
BLOCK = 4 << 20
TAIL_BYTES = 1234
NOISE = noise(90, 100_000)
PROFILE = UpdateProfile(block_bytes=BLOCK)
MEANS = Means(frozenset({Coder.RAW}), 0, 1)


def write_sparse(path: Path, length_bytes: int, contents: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(length_bytes)
        for at, data in contents.items():
            file.seek(at)
            file.write(data)
    return path


def identify(length_bytes: int, contents: dict[int, bytes]) -> ImageId:
    """Hash an image of zeros but for its contents, without a file."""
    hasher, at, zeros = hashlib.sha256(), 0, bytes(BLOCK)
    for start, data in [*sorted(contents.items()), (length_bytes, b"")]:
        while at < start:
            hasher.update(zeros[: min(BLOCK, start - at)])
            at += min(BLOCK, start - at)
        hasher.update(data)
        at += len(data)
    return ImageId(length_bytes, Digest(hasher.digest()))


def made_bundle(limit: int) -> tuple[bytes, Head, dict[int, bytes], dict[int, bytes], int]:
    """Return a bundle whose blocks beyond `limit` are copied and changed from old bytes beyond it; all others are zeros."""
    length_bytes = limit + 2 * BLOCK + TAIL_BYTES
    old = {limit + BLOCK + 5: NOISE}
    changed = bytes((NOISE[0] ^ 1,)) + NOISE[1:]
    new = {limit: NOISE, limit + BLOCK + 77: changed, limit + 2 * BLOCK: NOISE[:TAIL_BYTES]}
    segments = [
        Segment(limit, limit + BLOCK + 5, BLOCK),
        Segment(limit + BLOCK + 77, limit + BLOCK + 5, len(NOISE)),
        Segment(limit + 2 * BLOCK, limit + BLOCK + 5, TAIL_BYTES),
    ]
    segment_map = SegmentMap.of(segments)
    zeros = bytes(BLOCK)
    zero_block = fill_form(Place(0, 0, zeros, None, ()))
    assert zero_block is not None
    count = -(-length_bytes // BLOCK)
    blocks = [replace(zero_block, block=block) for block in range(count - 3)]
    assert len(blocks) * BLOCK == limit
    copied = NOISE.ljust(BLOCK, b"\0")
    outputs = [copied, (bytes(77) + changed).ljust(BLOCK, b"\0"), NOISE[:TAIL_BYTES]]
    window = _Old(limit + BLOCK + 5, NOISE)
    for number, output in enumerate(outputs, count - 3):
        place = Place(
            number, number * BLOCK, output, window, segment_map.pieces(number * BLOCK, number * BLOCK + len(output))
        )  # type: ignore[arg-type]
        form = copy_form(place) or delta_form(place, MEANS)
        blocks.append(form)
    identity = Identity(new=identify(length_bytes, new), old=identify(length_bytes, old), block_log2=22)
    written = write_bundle(identity, blocks, segments, MEANS.coders)
    head = read_head(written.data[: written.head_bytes], sign(written.data[: written.head_bytes]), PROFILE)
    return written.data, head, old, new, length_bytes


class _Old:
    """Slices of an old image that is zeros but for one stretch."""

    def __init__(self, start: int, data: bytes) -> None:
        self._start = start
        self._data = data

    def __getitem__(self, part: slice) -> bytes:
        made = bytearray(part.stop - part.start)
        first, last = max(part.start, self._start), min(part.stop, self._start + len(self._data))
        if first < last:
            made[first - part.start : last - part.start] = self._data[first - self._start : last - self._start]
        return bytes(made)


@pytest.mark.long
@pytest.mark.parametrize("limit", [2 * GIB, 4 * GIB])
def test_blocks_beyond_the_limit_are_made_from_old_bytes_beyond_it(tmp_path: Path, limit: int) -> None:
    data, head, old_contents, new_contents, length_bytes = made_bundle(limit)
    old_path = write_sparse(tmp_path / "old", length_bytes, old_contents)
    slot_path = tmp_path / "slot"
    print(f"{length_bytes} bytes, head of {head.length_bytes}, bundle of {len(data)}")
    with (
        FileOnDisk.open(old_path) as old,
        FileOnDisk.open(slot_path, length_bytes) as slot,
        Applier(head, old, slot) as applier,
    ):
        assert applier.progress.blocks_done == limit // BLOCK, "zeros that lie there are not written"
        applier.feed(data[applier.next_offset :])
        verified = applier.finish()
    assert verified.image == head.manifest.new
    assert slot_path.stat().st_size == length_bytes
    assert slot_path.stat().st_blocks * 512 < 16 << 20, "the slot stays sparse"
    with slot_path.open("rb") as file:
        for at, wanted in new_contents.items():
            file.seek(at)
            assert file.read(len(wanted)) == wanted


@pytest.mark.long
@pytest.mark.parametrize("limit", [2 * GIB, 4 * GIB])
def test_one_byte_beyond_the_limit_counts(tmp_path: Path, limit: int) -> None:
    """A signature or hash that covers the first 2 or 4 GiB alone would let both of these through."""
    data, head, old_contents, new_contents, length_bytes = made_bundle(limit)
    (start, noise_bytes), *_ = old_contents.items()
    worn = {start: noise_bytes[:-1] + bytes((noise_bytes[-1] ^ 1,))}
    old_path = write_sparse(tmp_path / "old", length_bytes, worn)
    with (
        FileOnDisk.open(old_path) as old,
        FileOnDisk.open(tmp_path / "slot", length_bytes) as slot,
        Applier(head, old, slot) as applier,
        pytest.raises(IncompatibleError, match=f"block {limit // BLOCK}"),
    ):
        applier.feed(data[applier.next_offset :])
    slot_path = write_sparse(tmp_path / "whole", length_bytes, new_contents)
    with (
        FileOnDisk.open(old_path) as old,
        FileOnDisk.open(slot_path, length_bytes) as slot,
        Applier(head, old, slot) as applier,
    ):
        assert applier.is_fed
        slot.write(length_bytes - 1, bytes((NOISE[TAIL_BYTES - 1] ^ 1,)))  # after it was recognised
        with pytest.raises(CorruptError, match="read back"):
            applier.finish()
