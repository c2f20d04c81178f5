"""The head of a bundle: preamble, sections, own SHA-256. Nothing in it is parsed before its hash was compared with a signed one.

`read_head` is the only maker of `Head`; whoever holds a `Head` holds authentic data.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from packager.vehicle._pure_adaptive import slots_log2
from packager.vehicle._pure_stretch import Context
from packager.vehicle.core.index import BlockIndex, parse_index
from packager.vehicle.core.manifest import Kind, Manifest, Op, parse_manifest
from packager.vehicle.core.predictors import MAP_ENTRY_BYTES, VALUE_BYTES, page_count, parse_predictors
from packager.vehicle.core.segments import EMPTY_MAP, SEGMENT_BYTES, SegmentMap, parse_segments
from packager.vehicle.core.spills import NO_SPILLS, SpillMap, parse_spills
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import DIGEST_BYTES, Digest
from packager.vehicle.profile import Coder, UpdateProfile
from packager.vehicle.wire import Cursor

MAGIC: Final = b"\x89OTA"
FORMAT_VERSION: Final = 1
PREAMBLE_BYTES: Final = 16
SECTION_ENTRY_BYTES: Final = 6
MAX_SECTIONS: Final = 16
CRITICAL: Final = 1
MIN_HEAD_BYTES: Final = PREAMBLE_BYTES + DIGEST_BYTES
MAX_HEAD_BYTES: Final = 1 << 24
ZSTD_MEMORY_BYTES: Final = 192 * 1024
LZMA_MEMORY_BYTES: Final = 64 * 1024
ADAPTIVE_MEMORY_BYTES: Final = 12 * 1024
ADAPTIVE_SLOT_BYTES: Final = 4


class Section(IntEnum):
    """Ids of the sections that this reader knows."""

    MANIFEST = 1
    INDEX = 2
    SEGMENTS = 3
    PREDICTORS = 4
    SPILLS = 5


_KNOWN_SECTIONS: Final = frozenset(Section)


class Feature(IntFlag):
    """Capabilities that a bundle asks of its reader; the preamble lists them before anything is parsed."""

    ZSTD = 1
    LZMA = 2
    WINDOW = 4
    IN_PLACE = 8
    PREDICTED = 16
    ADAPTIVE = 32


KNOWN_FEATURES: Final = (
    Feature.ZSTD | Feature.LZMA | Feature.WINDOW | Feature.IN_PLACE | Feature.PREDICTED | Feature.ADAPTIVE
)
"""What this reader does."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """What signed metadata says of a head: the only thing that makes one authentic."""

    length_bytes: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Head:
    """An authentic, checked head.

    Attributes:
        manifest: Identities and caps.
        index: One record per block, in install order.
        segments: The segment map; empty in a full bundle.
        predictors: Section 4 with the address map; None without predicted blocks.
        length_bytes: Length of the head; blobs start here.
        digest: SHA-256 of the whole head.
        spills: What an in-place update puts aside; often nothing.
    """

    manifest: Manifest
    index: BlockIndex
    segments: SegmentMap
    predictors: Context | None
    length_bytes: int
    digest: Digest
    spills: SpillMap = NO_SPILLS

    @property
    def bundle_bytes(self) -> int:
        """Exact length of the whole bundle."""
        return self.length_bytes + self.index.blobs_bytes


def features_of(manifest: Manifest) -> Feature:
    """Return the capabilities that a manifest asks for; the preamble must state exactly these."""
    wanted = (
        (Feature.ZSTD, Coder.ZSTD in manifest.coders),
        (Feature.LZMA, Coder.LZMA in manifest.coders),
        (Feature.WINDOW, Op.WINDOW in manifest.ops),
        (Feature.IN_PLACE, manifest.in_place),
        (Feature.PREDICTED, Op.PREDICTED in manifest.ops),
        (Feature.ADAPTIVE, Coder.ADAPTIVE in manifest.coders),
    )
    return Feature(sum(int(feature) for feature, is_needed in wanted if is_needed))


def required_memory_bytes(manifest: Manifest, head_bytes: int) -> int:
    """Return the memory that applying block after block needs, FORMAT.md section 9.

    The head, the decoded segment map (with predicted blocks also the address map, the value map and the modes of the pages), one
    blob, its decoded columns, its old part, one block, and the decompressors.
    """
    memory_bytes = head_bytes + manifest.segment_count * SEGMENT_BYTES
    if Op.PREDICTED in manifest.ops:
        memory_bytes += manifest.segment_count * MAP_ENTRY_BYTES + page_count(manifest.new.length_bytes)
        memory_bytes += manifest.value_count * VALUE_BYTES
        memory_bytes += (
            manifest.max_source_bytes if manifest.block_count == 1 else 0
        )  # the pieces beside the whole image
    memory_bytes += manifest.max_blob_bytes + manifest.max_decoded_bytes
    memory_bytes += manifest.max_source_bytes + manifest.max_output_bytes
    memory_bytes += ZSTD_MEMORY_BYTES if Coder.ZSTD in manifest.coders else 0
    if Coder.LZMA in manifest.coders:
        memory_bytes += LZMA_MEMORY_BYTES + max(manifest.max_output_bytes, manifest.max_decoded_bytes)
        memory_bytes += manifest.max_source_bytes if Op.PREDICTED in manifest.ops else 0  # known to the dictionary
    if Coder.ADAPTIVE in manifest.coders:
        memory_bytes += ADAPTIVE_MEMORY_BYTES + (ADAPTIVE_SLOT_BYTES << slots_log2(manifest.max_output_bytes))
    return memory_bytes


def read_head(data: bytes | bytearray | memoryview, signed: SignedHead, profile: UpdateProfile) -> Head:
    """Check a head against its signed identity, then parse it.

    Args:
        data: The first ``signed.length_bytes`` bytes of the bundle.
        signed: Length and hash from signed metadata.
        profile: The limits of the ECU.

    Raises:
        CorruptError: The bytes are not the signed ones, or break the format.
        IncompatibleError: Unknown version, feature, section or operation, or beyond the ECU's profile.
    """
    if len(data) != signed.length_bytes:
        raise CorruptError(f"head: found {len(data)} bytes, expected the {signed.length_bytes} of the signed metadata")
    if not MIN_HEAD_BYTES <= len(data) <= MAX_HEAD_BYTES:
        raise IncompatibleError(f"head: {len(data)} bytes, expected {MIN_HEAD_BYTES} to {MAX_HEAD_BYTES}")
    found = Digest.of(data)
    if found != signed.digest:
        raise CorruptError(f"head: found {found}, expected the signed {signed.digest}; fetch it again")
    view = memoryview(bytes(data))
    required, sections = read_sections(view)
    manifest = parse_manifest(sections[Section.MANIFEST])
    _check_profile(manifest, len(view), profile)
    expected = features_of(manifest)
    if required != expected:
        raise CorruptError(f"preamble: features {required!r}, expected {expected!r} as the manifest says")
    index = parse_index(sections[Section.INDEX], manifest)
    segments = _read_segments(sections.get(Section.SEGMENTS), manifest)
    predictors = _read_predictors(sections.get(Section.PREDICTORS), manifest, segments)
    spills = _read_spills(sections.get(Section.SPILLS), manifest)
    return Head(manifest, index, segments, predictors, len(view), found, spills)


def head_length_bytes(prefix: bytes | memoryview) -> int:
    """Return the head's length from its first bytes (`PREAMBLE_BYTES` and the section table), for tools without metadata.

    Raises:
        CorruptError: Not the start of a bundle, cut short, or longer than `MAX_HEAD_BYTES`.
        IncompatibleError: Unknown version or required feature.
    """
    cursor = Cursor(prefix, "preamble")
    _, _, entries = _preamble(cursor)
    length_bytes = cursor.offset + sum(length for _, _, length in entries) + DIGEST_BYTES
    if length_bytes > MAX_HEAD_BYTES:
        raise CorruptError(f"preamble: head of {length_bytes} bytes, expected at most {MAX_HEAD_BYTES}")
    return length_bytes


def read_sections(view: memoryview) -> tuple[Feature, Mapping[int, memoryview]]:
    """Split a head into its sections.

    Returns:
        The required features and the known sections by id.

    Raises:
        CorruptError: Broken framing, or the head's own hash differs.
        IncompatibleError: Unknown version, required feature or critical section.
    """
    cursor = Cursor(view[:-DIGEST_BYTES], "head")
    required, _, entries = _preamble(cursor)
    sections: dict[int, memoryview] = {}
    for section, flags, length_bytes in entries:
        content = cursor.take(length_bytes)
        if section in _KNOWN_SECTIONS:
            if not flags & CRITICAL:
                raise CorruptError(f"head: section {section} is not marked critical")
            sections[section] = content
        elif flags & CRITICAL:
            raise IncompatibleError(f"head: critical section {section} is unknown; this bundle needs a newer reader")
    cursor.end()
    if hashlib.sha256(view[:-DIGEST_BYTES]).digest() != view[-DIGEST_BYTES:]:
        raise CorruptError("head: its own SHA-256 at the end does not match; the file is damaged")
    for needed in (Section.MANIFEST, Section.INDEX):
        if needed not in sections:
            raise CorruptError(f"head: section {needed.name} is missing")
    return required, sections


def _preamble(cursor: Cursor) -> tuple[Feature, int, list[tuple[int, int, int]]]:
    magic = bytes(cursor.take(len(MAGIC)))
    if magic != MAGIC:
        raise CorruptError(f"preamble: found {magic!r}, expected {MAGIC!r}; this is not a bundle")
    version, count = cursor.uint(2), cursor.uint(2)
    if version != FORMAT_VERSION:
        raise IncompatibleError(f"preamble: format version {version}, expected {FORMAT_VERSION}; needs another reader")
    required, optional = cursor.uint(4), cursor.uint(4)
    if required & ~int(KNOWN_FEATURES):  # ~ of an IntFlag has only the named bits
        raise IncompatibleError(
            f"preamble: required features {required:#x}, this reader knows {int(KNOWN_FEATURES):#x}; needs a newer reader"
        )
    if not 1 <= count <= MAX_SECTIONS:
        raise CorruptError(f"preamble: {count} sections, expected 1 to {MAX_SECTIONS}")
    entries = []
    previous = 0
    for _ in range(count):
        section, flags, length_bytes = cursor.uint(1), cursor.uint(1), cursor.uint(4)
        if section <= previous or flags & ~CRITICAL:
            raise CorruptError(f"preamble: section {section} with flags {flags:#x} after section {previous}")
        entries.append((section, flags, length_bytes))
        previous = section
    return Feature(required), optional, entries


def _read_segments(section: memoryview | None, manifest: Manifest) -> SegmentMap:
    if (section is None) != (manifest.segment_count == 0):
        raise CorruptError(f"head: segment map for {manifest.segment_count} segments is missing or not wanted")
    if section is None:
        return EMPTY_MAP
    return parse_segments(
        section,
        old_length_bytes=manifest.old_length_bytes,
        new_length_bytes=manifest.new.length_bytes,
        max_segments=manifest.segment_count,
        max_decoded_bytes=manifest.max_decoded_bytes,
        limits=manifest.limits,
    )


def _read_predictors(section: memoryview | None, manifest: Manifest, segments: SegmentMap) -> Context | None:
    if (section is None) == (Op.PREDICTED in manifest.ops):
        raise CorruptError("head: predictor section present without predicted blocks, or missing with them")
    if section is None:
        return None
    return parse_predictors(
        section,
        segments,
        old_bytes=manifest.old_length_bytes,
        new_bytes=manifest.new.length_bytes,
        values=(manifest.value_count, manifest.max_decoded_bytes),
        limits=manifest.limits,
    )


def _read_spills(section: memoryview | None, manifest: Manifest) -> SpillMap:
    if section is not None and not manifest.in_place:
        raise CorruptError("head: spills in a bundle that is not in-place")
    spills = NO_SPILLS if section is None else parse_spills(section, manifest.old_length_bytes)
    wanted_bytes = manifest.max_output_bytes + spills.spilled_bytes if manifest.in_place else 0
    if manifest.scratch_bytes != wanted_bytes:
        raise CorruptError(f"manifest: states {manifest.scratch_bytes} bytes of scratch, expected {wanted_bytes}")
    return spills


def _check_profile(manifest: Manifest, head_bytes: int, profile: UpdateProfile) -> None:
    """Refuse, before anything is fetched, what the ECU can't do."""
    memory_bytes = required_memory_bytes(manifest, head_bytes)
    if manifest.memory_bytes != memory_bytes:
        raise CorruptError(f"manifest: states {manifest.memory_bytes} bytes of memory, expected {memory_bytes}")
    faults = []
    if memory_bytes > profile.ram_bytes:
        faults.append(f"needs {memory_bytes} bytes of memory, the ECU has {profile.ram_bytes}")
    if max(manifest.new.length_bytes, manifest.old_length_bytes) > profile.flash_bytes:
        faults.append(
            f"new image of {manifest.new.length_bytes} and old image of {manifest.old_length_bytes} bytes, "
            f"a slot holds {profile.flash_bytes}"
        )
    if profile.block_bytes not in (None, manifest.block_bytes):
        faults.append(f"blocks of {manifest.block_bytes} bytes, the ECU takes {profile.block_bytes}")
    missing = manifest.coders - profile.coders - {Coder.RAW}
    if missing:
        faults.append(f"needs decoder {', '.join(sorted(coder.name for coder in missing))}")
    if manifest.scratch_bytes > profile.scratch_bytes:
        faults.append(f"needs {manifest.scratch_bytes} bytes of scratch, the ECU has {profile.scratch_bytes}")
    if not profile.spare_slot and not manifest.in_place and manifest.kind is Kind.DELTA:
        faults.append("needs a spare slot, the ECU has none")
    if Op.PREDICTED in manifest.ops and not profile.predictors:
        faults.append("needs predictors")
    if faults:
        raise IncompatibleError("bundle exceeds the profile of the ECU: " + "; ".join(faults))
