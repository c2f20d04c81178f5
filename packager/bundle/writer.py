"""Puts a bundle together: coded blocks and segments in, the bytes of the format out. All field widths come from the vehicle's reader."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from packager.bundle.columns import Column, encode_column
from packager.diff.prediction import Prediction
from packager.vehicle._pure_stretch import Context
from packager.vehicle.core.head import (
    CRITICAL,
    FORMAT_VERSION,
    MAGIC,
    PREAMBLE_BYTES,
    SECTION_ENTRY_BYTES,
    Section,
    features_of,
    required_memory_bytes,
)
from packager.vehicle.core.index import (
    MAX_WHOLE_OLD_BYTES,
    NUMBERED,
    OUTPUT_HASHED,
    SOURCE_HASHED,
    WINDOWED,
    blob_length_width,
)
from packager.vehicle.core.manifest import FLAG_IN_PLACE, MEMORY_FIELD_BYTES, READS_OLD, Manifest, Op
from packager.vehicle.core.predictors import PREDICTORS_VERSION
from packager.vehicle.core.segments import Segment
from packager.vehicle.identity import DIGEST_BYTES, ImageId
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint, zigzag


@dataclass(frozen=True, slots=True)
class CodedBlock:
    """One block as it will stand in the bundle.

    Attributes:
        block: Its number in the grid.
        op: Operation.
        coder: Coder of the blob, see `BlockRecord`.
        blob: Coded form.
        output: The block itself.
        source: The old bytes that it reads, in the order of the format.
        window_offset: First old byte of the window of `Op.WINDOW`.
        decoded_bytes: Sum of its decoded columns.
        window_log2: log2 of the largest zstd window in the blob, 0 for none.
        coders: Coders within the blob.
    """

    block: int
    op: Op
    coder: Coder
    blob: bytes
    output: bytes
    source: bytes = b""
    window_offset: int = 0
    decoded_bytes: int = 0
    window_log2: int = 0
    coders: frozenset[Coder] = frozenset()


@dataclass(frozen=True, slots=True)
class Identity:
    """What the bundle is and for whom; see `Manifest`."""

    new: ImageId
    old: ImageId | None
    block_log2: int
    release_counter: int = 0
    version: str = ""
    hardware_ids: tuple[str, ...] = ()
    in_place: bool = False
    scratch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WrittenBundle:
    """A finished bundle.

    Attributes:
        data: All of it; the first `head_bytes` are the head.
        head_bytes: Length of the head.
        memory_bytes: What applying it needs on the vehicle.
    """

    data: bytes
    head_bytes: int
    memory_bytes: int


def write_bundle(
    identity: Identity,
    blocks: Sequence[CodedBlock],
    segments: Sequence[Segment],
    coders: frozenset[Coder],
    prediction: Prediction | None = None,
    spills: bytes = b"",
) -> WrittenBundle:
    """Write head and blobs.

    Args:
        identity: What it is.
        blocks: In install order, each block of the grid once.
        segments: Those that the blocks read, normalised.
        coders: Coders that the ECU has, for the segment map.
        prediction: Modes of the pages; needed with predicted blocks, left out without.
        spills: Section 5, coded.
    """
    map_columns = encode_segments(segments, coders) if segments else ()
    columns = map_columns
    predictors = b""
    value_columns: tuple[Column, ...] = ()
    if prediction is not None and any(block.op is Op.PREDICTED for block in blocks):
        pages = [encode_column(prediction.context.pages, coders)] if len(prediction.modes) > 1 else []
        value_columns = encode_values(prediction.context, coders)
        predictors = encode_predictors(prediction, [*pages, *value_columns])
        columns = (*columns, *pages, *value_columns)
    map_section = (
        b"".join((encode_varint(len(segments)), *(column.encoded for column in map_columns))) if segments else b""
    )
    used = frozenset({Coder.RAW}).union(*({block.coder} | block.coders for block in blocks))
    used |= {column.coder for column in columns}
    window_log2 = max([block.window_log2 for block in blocks] + [column.window_log2 for column in columns])
    reads_old = any(block.op in READS_OLD for block in blocks)
    implied = (
        reads_old and len(blocks) == 1 and identity.old is not None and identity.old.length_bytes <= MAX_WHOLE_OLD_BYTES
    )
    max_source = max((len(block.source) for block in blocks), default=0)
    manifest = Manifest(
        new=identity.new,
        old=identity.old,
        block_log2=identity.block_log2,
        in_place=identity.in_place,
        ops=frozenset(block.op for block in blocks),
        coders=used,
        window_log2=window_log2,
        max_blob_bytes=max(len(block.blob) for block in blocks),
        max_source_bytes=max(max_source, identity.old.length_bytes) if implied and identity.old else max_source,
        max_decoded_bytes=max(
            sum(column.decoded_bytes for column in map_columns),
            sum(column.decoded_bytes for column in value_columns),
            *(block.decoded_bytes for block in blocks),
        ),
        segment_count=len(segments),
        memory_bytes=0,
        scratch_bytes=identity.scratch_bytes,
        release_counter=identity.release_counter,
        version=identity.version,
        hardware_ids=tuple(sorted(identity.hardware_ids)),
        value_count=len(prediction.context.old_values) if prediction is not None and predictors else 0,
    )
    index = _encode_index(blocks, source_hashed=reads_old and not implied)
    head, memory_bytes = _assemble(manifest, index, map_section, predictors, spills)
    return WrittenBundle(b"".join((head, *(block.blob for block in blocks))), len(head), memory_bytes)


def encode_values(context: Context, coders: frozenset[Coder]) -> tuple[Column, ...]:
    """Code the columns of the value map, if it is not empty."""
    gaps, changes = bytearray(), bytearray()
    last, change = -1, 0
    for old_value, new_value in zip(context.old_values, context.new_values, strict=True):
        gaps += encode_varint(old_value - last - 1)
        changes += encode_varint(zigzag(new_value - old_value - change))
        last, change = old_value, new_value - old_value
    return tuple(encode_column(bytes(column), coders) for column in (gaps, changes)) if gaps else ()


def encode_predictors(prediction: Prediction, columns: Sequence[Column]) -> bytes:
    """Write section 4: version, modes, then the columns: with several modes those of the pages, with a value map the two of that."""
    modes = [
        bytes((mode.instruction_set, int(mode.groups))) + encode_varint(zigzag(_signed(mode.base)))
        for mode in prediction.modes
    ]
    start = bytes((PREDICTORS_VERSION, len(prediction.modes)))
    return b"".join((start, *modes, *(column.encoded for column in columns)))


def encode_segments(segments: Sequence[Segment], coders: frozenset[Coder]) -> tuple[Column, ...]:
    """Code the columns of section 3: gap, length, change of diagonal."""
    gaps, lengths, diagonals = bytearray(), bytearray(), bytearray()
    at = diagonal = 0
    for new_offset, old_offset, length_bytes in segments:
        gaps += encode_varint(new_offset - at)
        lengths += encode_varint(length_bytes)
        diagonals += encode_varint(zigzag(old_offset - new_offset - diagonal))
        at, diagonal = new_offset + length_bytes, old_offset - new_offset
    return tuple(encode_column(bytes(column), coders) for column in (gaps, lengths, diagonals))


def _assemble(
    manifest: Manifest, index: bytes, map_section: bytes, predictors: bytes, spills: bytes
) -> tuple[bytes, int]:
    sections: list[tuple[Section, bytes]] = [(Section.MANIFEST, encode_manifest(manifest)), (Section.INDEX, index)]
    sections += [(Section.SEGMENTS, map_section)] if map_section else []
    sections += [(Section.PREDICTORS, predictors)] if predictors else []
    sections += [(Section.SPILLS, spills)] if spills else []
    head_bytes = PREAMBLE_BYTES + DIGEST_BYTES + sum(SECTION_ENTRY_BYTES + len(content) for _, content in sections)
    memory_bytes = required_memory_bytes(manifest, head_bytes)
    sections[0] = (Section.MANIFEST, encode_manifest(replace(manifest, memory_bytes=memory_bytes)))
    parts = [MAGIC, FORMAT_VERSION.to_bytes(2, "little"), len(sections).to_bytes(2, "little")]
    parts += [int(features_of(manifest)).to_bytes(4, "little"), bytes(4)]
    parts += [bytes((section, CRITICAL)) + len(content).to_bytes(4, "little") for section, content in sections]
    body = b"".join((*parts, *(content for _, content in sections)))
    return body + hashlib.sha256(body).digest(), memory_bytes


def encode_manifest(manifest: Manifest) -> bytes:
    """Write section 1; the inverse of `packager.vehicle.core.manifest.parse_manifest`."""
    fields: list[bytes] = [
        bytes((manifest.kind, manifest.block_log2, FLAG_IN_PLACE if manifest.in_place else 0, manifest.window_log2)),
        _mask(manifest.ops).to_bytes(2, "little"),
        _mask(manifest.coders).to_bytes(2, "little"),
    ]
    fields += [
        encode_varint(image.length_bytes) + image.digest.value for image in (manifest.new, manifest.old) if image
    ]
    fields += [
        encode_varint(value)
        for value in (
            manifest.max_blob_bytes,
            manifest.max_source_bytes,
            manifest.max_decoded_bytes,
            manifest.segment_count,
            manifest.scratch_bytes,
            manifest.release_counter,
        )
    ]
    fields += [manifest.memory_bytes.to_bytes(MEMORY_FIELD_BYTES, "little")]
    fields += [_text(manifest.version), bytes((len(manifest.hardware_ids),)), *map(_text, manifest.hardware_ids)]
    fields += [encode_varint(manifest.value_count)] if Op.PREDICTED in manifest.ops else []
    return b"".join(fields)


def _encode_index(blocks: Sequence[CodedBlock], *, source_hashed: bool) -> bytes:
    length_width = blob_length_width(max(len(block.blob) for block in blocks))
    numbered = any(second.block != first.block + 1 for first, second in pairwise(blocks))
    layout = NUMBERED if numbered else 0
    layout |= WINDOWED if any(block.op is Op.WINDOW for block in blocks) else 0
    layout |= OUTPUT_HASHED if len(blocks) > 1 else 0
    layout |= SOURCE_HASHED if source_hashed else 0
    parts = [bytes((layout, length_width))]
    for block in blocks:
        window = (block.window_offset, len(block.source)) if block.op is Op.WINDOW else (0, 0)
        parts += [block.block.to_bytes(4, "little")] if layout & NUMBERED else []
        parts += [bytes((block.op, block.coder)), len(block.blob).to_bytes(length_width, "little")]
        parts += [window[0].to_bytes(8, "little") + window[1].to_bytes(4, "little")] if layout & WINDOWED else []
        parts += [hashlib.sha256(block.blob).digest()]
        parts += [hashlib.sha256(block.output).digest()] if layout & OUTPUT_HASHED else []
        if layout & SOURCE_HASHED:
            parts += [hashlib.sha256(block.source).digest() if block.op in READS_OLD else bytes(DIGEST_BYTES)]
    return b"".join(parts)


def _mask(values: Iterable[int]) -> int:
    return sum(1 << value for value in values)


def _text(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _signed(address: int) -> int:
    """Return a 64-bit address as a signed number: those of kernels are small negative ones."""
    return address - (1 << 64) if address >> 63 else address
