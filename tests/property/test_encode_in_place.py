"""The law of in-place bundles: overwriting any old image with the bundle's blocks, in its order and scratch, makes the new one."""

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from packager.bundle.check import rebuild
from packager.bundle.encoder import Label, encode
from packager.bundle.inplace import arrange
from packager.bundle.loose import self_signed
from packager.diff import bsdiff
from packager.diff.engine import Alignment
from packager.vehicle.core.head import SignedHead, read_head
from packager.vehicle.identity import Digest
from packager.vehicle.profile import UpdateProfile

BLOCK = 4096


def shuffled(seed: int, stretches: int, kept: float) -> tuple[bytes, bytes]:
    """Return an old image and a new one of its stretches in another order, some changed, some left out, some new."""
    chance = random.Random(seed)
    parts = [chance.randbytes(chance.choice((300, 2000, 4096, 6000))) for _ in range(stretches)]
    new = [part for part in parts if chance.random() < 0.8]
    if chance.random() > kept:
        chance.shuffle(new)
    new = [bytes((part[0] ^ 1,)) + part[1:] if chance.random() < 0.5 else part for part in new]
    new.insert(chance.randrange(len(new) + 1), chance.randbytes(chance.randrange(1, 3000)))
    return b"".join(parts), b"".join(new)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14), st.floats(0, 1), st.integers(1, 8))
def test_overwriting_makes_the_new_image(seed: int, stretches: int, kept: float, scratch_blocks: int) -> None:
    old, new = shuffled(seed, stretches, kept)
    profile = UpdateProfile(spare_slot=False, block_bytes=BLOCK, scratch_bytes=scratch_blocks * BLOCK)
    encoded = encode(old, new, Alignment(bsdiff.segments(old, new)), profile, Label(), level=3)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "old").write_bytes(old)
        (Path(directory) / "bundle").write_bytes(encoded.written.data)
        signed = self_signed(Path(directory) / "bundle")
        made = rebuild(Path(directory) / "bundle", signed, profile, Path(directory) / "old", Path(directory)).image
    head_bytes = encoded.written.data[: encoded.written.head_bytes]
    head = read_head(head_bytes, SignedHead(len(head_bytes), Digest.of(head_bytes)), profile)
    assert made == head.manifest.new
    assert head.manifest.scratch_bytes <= profile.scratch_bytes


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(0, 6 * BLOCK))
def test_every_block_finds_its_old_bytes(seed: int, blocks: int, spill_bytes: int) -> None:
    chance = random.Random(seed)
    block_bytes = 64
    old, new = chance.randbytes(blocks * block_bytes), chance.randbytes(blocks * block_bytes - chance.randrange(60))
    starts = [[chance.randrange(len(old)) for _ in range(chance.randrange(4))] for _ in range(blocks)]
    reads = [[(start, min(start + chance.randrange(1, 99), len(old))) for start in row] for row in starts]
    extra = [chance.randrange(200) for _ in range(blocks)]
    divisible = {block for block in range(blocks) if chance.random() < 0.5}
    found = arrange(old, new, block_bytes, reads, spill_bytes, extra.__getitem__, divisible)
    assert found == arrange(old, new, block_bytes, reads, spill_bytes, extra.__getitem__, divisible)
    assert found.left_out.keys() <= divisible - found.recoded
    assert sorted(found.order) == list(range(blocks))
    assert found.spilled_bytes <= spill_bytes
    assert all(
        first + length < after for (first, length), (after, _) in zip(found.spills, found.spills[1:], strict=False)
    )
    spilled = {at for first, length in found.spills for at in range(first, first + length)}
    slot = bytearray(old.ljust(len(new), b"\0"))
    unread = {
        block: {at for first, end in ranges for at in range(first, end)} for block, ranges in found.left_out.items()
    }
    for block in found.order:
        if block not in found.recoded:
            for first, end in reads[block]:
                needed = set(range(first, end)) - spilled - unread.get(block, set())
                assert all(slot[at] == old[at] for at in needed), "an old byte is gone"
        output = new[block * block_bytes : (block + 1) * block_bytes]
        slot[block * block_bytes : block * block_bytes + len(output)] = output
