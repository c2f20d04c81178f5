"""Small bundles that together use every part of the format; made by the packager's writer from bytes of a fixed seed."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from packager.bundle.columns import encode_column
from packager.bundle.forms import Means, Place, copy_form, delta_form, fill_form, raw_form, window_form
from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.diff import lzma, zstd
from packager.vehicle.core.head import PREAMBLE_BYTES, SECTION_ENTRY_BYTES, Head, SignedHead, read_head
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder, UpdateProfile

BLOCK_LOG2 = 12
BLOCK = 1 << BLOCK_LOG2
ALL_CODERS = frozenset(Coder)
PROFILE = UpdateProfile(coders=ALL_CODERS)


@dataclass(frozen=True)
class Sample:
    """A bundle with both of its images."""

    name: str
    old: bytes | None
    new: bytes
    data: bytes
    head_bytes: int

    @property
    def signed(self) -> SignedHead:
        return sign(self.data[: self.head_bytes])

    @property
    def head(self) -> Head:
        return read_head(self.data[: self.head_bytes], self.signed, PROFILE)

    @property
    def blobs(self) -> bytes:
        return self.data[self.head_bytes :]


def sign(head: bytes) -> SignedHead:
    """Stand in for the signed metadata."""
    return SignedHead(len(head), Digest.of(head))


def noise(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count)


def text(seed: int, count: int) -> bytes:
    """Compressible bytes."""
    chooser = random.Random(seed)
    words = [chooser.randbytes(chooser.randint(2, 9)) for _ in range(40)]
    return b"".join(chooser.choice(words) for _ in range(count))[:count]


def compressed(coder: Coder) -> Callable[[Place, Means], CodedBlock]:
    """Return a form that is compressed with `coder`, whatever comes out."""

    def form(place: Place, means: Means) -> CodedBlock:
        if coder is Coder.LZMA:
            return CodedBlock(place.block, Op.COMPRESSED, coder, lzma.compress(place.output), place.output)
        coded = zstd.compress(place.output, means.level)
        log2 = zstd.window_log2(coded)
        return CodedBlock(place.block, Op.COMPRESSED, coder, coded, place.output, window_log2=log2)

    return form


Form = Callable[[Place, Means], CodedBlock | None]
RAW: Form = lambda place, means: raw_form(place)  # noqa: E731
FILL: Form = lambda place, means: fill_form(place)  # noqa: E731
COPY: Form = lambda place, means: copy_form(place)  # noqa: E731
DELTA: Form = delta_form
WINDOW: Form = window_form
ZSTD: Form = compressed(Coder.ZSTD)
LZMA: Form = compressed(Coder.LZMA)


def make(
    name: str,
    old: bytes | None,
    new: bytes,
    forms: Sequence[Form],
    segments: Sequence[Segment] = (),
    *,
    coders: frozenset[Coder] = ALL_CODERS,
    block_log2: int = BLOCK_LOG2,
    hardware_ids: tuple[str, ...] = (),
    version: str = "",
    release_counter: int = 0,
) -> Sample:
    """Write a bundle with the given form for each block."""
    segment_map = SegmentMap.of(segments)
    means = Means(coders, 1 << 20, 19)
    blocks = []
    for block, form in enumerate(forms):
        start = block << block_log2
        output = new[start : start + (1 << block_log2)]
        made = form(Place(block, start, output, old, segment_map.pieces(start, start + len(output))), means)
        assert made is not None, f"{name}: block {block} has not this form"
        blocks.append(made)
    identity = Identity(
        new=ImageId.of(new),
        old=None if old is None else ImageId.of(old),
        block_log2=block_log2,
        release_counter=release_counter,
        version=version,
        hardware_ids=hardware_ids,
    )
    written = write_bundle(identity, blocks, segments, coders)
    return Sample(name, old, new, written.data, written.head_bytes)


@cache
def full_one_block() -> Sample:
    return make("full-one-block", None, b"hello, car", [RAW], version="1.0", hardware_ids=("mcu-m0",))


@cache
def full_mixed() -> Sample:
    new = noise(1, BLOCK) + b"\xff" * BLOCK + text(2, BLOCK) + text(3, BLOCK) + b"\0" * 77
    return make("full-mixed", None, new, [RAW, FILL, ZSTD, LZMA, FILL], version="7.0.45", release_counter=45)


@cache
def delta_one_block() -> Sample:
    old = text(4, 3000)
    new = old[:1000] + b"inserted" + bytes((byte + 3) & 0xFF for byte in old[1000:1010]) + old[1010:]
    segments = [Segment(0, 0, 1000), Segment(1008, 1000, 2000)]
    return make("delta-one-block", old, new, [DELTA], segments, hardware_ids=("a", "b"), coders=frozenset({Coder.RAW}))


@cache
def window_one_block() -> Sample:
    old = text(5, 3500)
    return make("window-one-block", old, old[1700:] + text(6, 40) + old[:1600], [WINDOW])


@cache
def copy_one_block() -> Sample:
    old = noise(15, 3000)
    return make("copy-one-block", old, old[1000:] + old[:900], [COPY], [Segment(0, 1000, 2000), Segment(2000, 0, 900)])


@cache
def delta_mixed() -> Sample:
    """Return one with every operation, raw, zstd and LZMA columns, and pieces that cross block borders."""
    old = noise(7, 3 * BLOCK) + text(8, 3 * BLOCK)
    segments: list[Segment] = []
    new = bytearray()

    def follow(old_offset: int, length_bytes: int) -> None:
        segments.append(Segment(len(new), old_offset, length_bytes))
        new.extend(old[old_offset : old_offset + length_bytes])

    follow(BLOCK, 1000)  # 0: copied from two places
    follow(100, BLOCK - 1000 + 500)
    new += b"literals between"  # 1: pieces, literals and many changes
    for index in range(60):
        follow(3 * BLOCK + index * 40, 24)
        new += bytes((index,))
    follow(7000, 2 * BLOCK - len(new))
    for at in range(BLOCK + 30, 2 * BLOCK, 53):
        new[at] = (new[at] + 9) & 0xFF
    new += b"\xff" * BLOCK  # 2: fill
    window = old[4 * BLOCK : 5 * BLOCK]
    new += window[2000:] + b"new words" + window[: 2000 - 9]  # 3: window
    new += text(9, BLOCK) + text(10, BLOCK) + noise(11, BLOCK)  # 4, 5, 6: compressed, raw
    follow(0, BLOCK)  # 7: one piece is the block
    new[7 * BLOCK + 5] ^= 0x40
    new[8 * BLOCK - 1] ^= 0x01
    new += text(12, BLOCK)  # 8: literals only
    follow(5 * BLOCK, 100)  # 9: a short copy
    forms = [COPY, DELTA, FILL, WINDOW, ZSTD, LZMA, RAW, DELTA, DELTA, COPY]
    return make(
        "delta-mixed",
        old,
        bytes(new),
        forms,
        segments,
        version="7.0.45",
        release_counter=45,
        hardware_ids=("DME-8.4", "DME-8.6"),
    )


def reassemble(
    head: bytes, *, required: int | None = None, optional: int = 0, extra: Sequence[tuple[int, int, bytes]] = ()
) -> bytes:
    """Return a head with other feature bits and further sections `(id, flags, content)`, its memory and own hash made right."""
    count = int.from_bytes(head[6:8], "little")
    table_end = PREAMBLE_BYTES + SECTION_ENTRY_BYTES * count
    entries = [head[at : at + SECTION_ENTRY_BYTES] for at in range(PREAMBLE_BYTES, table_end, SECTION_ENTRY_BYTES)]
    contents = []
    at = table_end
    for entry in entries:
        length = int.from_bytes(entry[2:], "little")
        contents.append(head[at : at + length])
        at += length
    added = sum(SECTION_ENTRY_BYTES + len(content) for _, _, content in extra)
    entries += [bytes((number, flags)) + len(content).to_bytes(4, "little") for number, flags, content in extra]
    contents += [content for _, _, content in extra]
    contents[0] = _more_memory(contents[0], added)
    required_bytes = head[8:12] if required is None else required.to_bytes(4, "little")
    body = head[:6] + len(entries).to_bytes(2, "little") + required_bytes + optional.to_bytes(4, "little")
    body += b"".join(entries) + b"".join(contents)
    return body + hashlib.sha256(body).digest()


def _more_memory(manifest: bytes, added: int) -> bytes:
    """Raise the memory of a manifest without names, where it stands six bytes before the end."""
    at = len(manifest) - 6
    memory = int.from_bytes(manifest[at : at + 4], "little") + added
    return manifest[:at] + memory.to_bytes(4, "little") + manifest[at + 4 :]


@cache
def optional_extras() -> Sample:
    """Return one with an optional feature and an optional section that no reader knows yet."""
    plain = make("", None, noise(13, 300), [RAW])
    head = reassemble(plain.data[: plain.head_bytes], optional=0x80000001, extra=[(200, 0, b"a hint")])
    return Sample("full-optional-extras", None, plain.new, head + plain.blobs, len(head))


def samples() -> list[Sample]:
    return [
        full_one_block(),
        full_mixed(),
        delta_one_block(),
        window_one_block(),
        copy_one_block(),
        delta_mixed(),
        optional_extras(),
    ]


def column(data: bytes, coders: frozenset[Coder] = frozenset({Coder.RAW})) -> bytes:
    return encode_column(data, coders).encoded
