"""Every rule of the head in the C core, from both sides: heads that break one rule, well signed, and Python's answer."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from packager.bundle.writer import encode_manifest
from packager.vehicle.core.head import read_head, read_sections, required_memory_bytes
from packager.vehicle.core.manifest import Op
from packager.vehicle.errors import CorruptError, IncompatibleError, VehicleError
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import Coder, UpdateProfile
from packager.vehicle.wire import encode_varint, zigzag
from tests.c.core import ARENA_BYTES, CORRUPT, INCOMPATIBLE, Core
from tests.sample_bundles import BLOCK, Sample, copy_one_block, full_one_block, sign
from tests.unit.test_vehicle_c_core import delta_raw

PREAMBLE, SECTIONS, MANIFEST, MEMORY, INDEX, SEGMENTS = range(0x12, 0x18)
HEAD_OWN_HASH, OLD_PART_LENGTH, BLOCK_HASH = 0x11, 0x19, 0x1C
HEAD_LENGTH, VERSION, FEATURE, UNKNOWN_SECTION, UNKNOWN_MANIFEST, UNKNOWN_LAYOUT, CODER = range(0x20, 0x27)
WIDE = UpdateProfile(coders=frozenset({Coder.RAW}))
RECORD_BYTES = 100


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    core = Core(sanitized=True)
    yield core
    core.close()


def sealed(sample: Sample, body: bytes) -> Sample:
    head = body + hashlib.sha256(body).digest()
    return Sample(sample.name, sample.old, sample.new, head + sample.blobs, len(head))


def framed(sections: list[tuple[int, int, bytes]], required: int = 0) -> bytes:
    table = b"".join(bytes((number, flags)) + len(content).to_bytes(4, "little") for number, flags, content in sections)
    preamble = b"\x89OTA" + (1).to_bytes(2, "little") + len(sections).to_bytes(2, "little")
    preamble += required.to_bytes(4, "little") + bytes(4)
    return preamble + table + b"".join(content for _, _, content in sections)


def rebuilt(
    sample: Sample,
    *,
    index: Callable[[bytearray], object] = lambda index: None,
    segments: bytes | None = None,
    memory: int = 0,
    **changes: Any,
) -> Sample:
    """Return the bundle with another manifest, index or map. The memory is right but for what `memory` adds."""
    parts = dict(read_sections(memoryview(sample.data[: sample.head_bytes]))[1])
    raw_index = bytearray(parts[2])
    index(raw_index)
    content = {1: b"", 2: bytes(raw_index)}
    if segments is not None or 3 in parts:
        content[3] = bytes(parts[3]) if segments is None else segments
    manifest = replace(sample.head.manifest, **changes)
    head_bytes = 48 + sum(6 + len(part) for part in content.values()) + len(encode_manifest(manifest))
    manifest = replace(manifest, memory_bytes=required_memory_bytes(manifest, head_bytes) + memory & 0xFFFFFFFF)
    content[1] = encode_manifest(manifest)
    return sealed(sample, framed([(number, 1, part) for number, part in sorted(content.items())]))


def the_same(core: Core, sample: Sample, error: int) -> None:
    answer = core.ask(sample, arena_bytes=ARENA_BYTES)
    assert hex(answer.error) == hex(error)
    refused: type[VehicleError] = CorruptError if answer.fault == CORRUPT else IncompatibleError
    with pytest.raises(refused):
        read_head(sample.data[: sample.head_bytes], sign(sample.data[: sample.head_bytes]), WIDE)


def names(*given: str) -> dict[str, Any]:
    return {"hardware_ids": given}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        names(*(f"{index:02}" for index in range(16))),
        names("a", "a-b", "ab", "b" * 64),
        {"version": "Z9.+~-_"},
        {"version": "x" * 64},
        {"release_counter": 0xFFFFFFFF},
        {"max_decoded_bytes": 1 << 20},
    ],
)
def test_manifests_within_the_limits(core: Core, changes: dict[str, Any]) -> None:
    sample = delta_raw()
    answer = core.ask(rebuilt(sample, **changes))
    assert (answer.error, answer.slot) == (0, sample.new)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (names(*(f"{index:02}" for index in range(17))), MANIFEST),
        (names("b", "a"), MANIFEST),
        (names("a", "a"), MANIFEST),
        (names("ab", "a"), MANIFEST),
        (names("a-b", "a"), MANIFEST),
        (names(""), MANIFEST),
        (names(".a"), MANIFEST),
        (names("a/b"), MANIFEST),
        (names("a\0"), MANIFEST),
        (names("é"), MANIFEST),
        (names("b" * 65), MANIFEST),
        ({"version": "x" * 65}, MANIFEST),
        ({"version": "-x"}, MANIFEST),
        ({"release_counter": 1 << 32}, MANIFEST),
        ({"max_blob_bytes": 1 << 32}, MANIFEST),
        ({"max_source_bytes": 1 << 62}, MANIFEST),
        ({"max_decoded_bytes": 1 << 32}, MANIFEST),
        ({"segment_count": (1 << 22) + 1}, MANIFEST),
        ({"scratch_bytes": 1}, MANIFEST),
        ({"window_log2": 1}, MANIFEST),
        ({"block_log2": 11}, MANIFEST),
        ({"block_log2": 23}, MANIFEST),
        ({"ops": frozenset({Op.RAW, Op.FILL, Op.COPY, Op.DELTA, Op.WINDOW})}, MANIFEST),
        ({"ops": frozenset({Op.RAW, Op.FILL, Op.COPY, Op.DELTA, Op.COMPRESSED})}, INDEX),
        ({"ops": frozenset({Op.RAW, Op.FILL, Op.COPY})}, INDEX),
        ({"memory": 1}, MEMORY),
        ({"memory": -1}, MEMORY),
        ({"max_blob_bytes": BLOCK + 1}, INDEX),
        ({"max_blob_bytes": BLOCK - 1}, INDEX),
        ({"max_blob_bytes": 1 << 20}, INDEX),
        ({"segment_count": 1}, SEGMENTS),
        ({"segment_count": 0}, SECTIONS),
        ({"max_decoded_bytes": 10}, SEGMENTS),
        ({"coders": frozenset({Coder.RAW, Coder.LZMA})}, CODER),
        ({"coders": frozenset()}, MANIFEST),
        ({"new": ImageId(5 * BLOCK + 1, full_one_block().signed.digest)}, INDEX),
        ({"new": ImageId((1 << 40) + 1, full_one_block().signed.digest)}, MANIFEST),
        ({"new": ImageId(0, full_one_block().signed.digest)}, MANIFEST),
        ({"old": ImageId(0, full_one_block().signed.digest)}, MANIFEST),
        ({"old": ImageId((1 << 40) + 1, full_one_block().signed.digest)}, MANIFEST),
        ({"old": ImageId(BLOCK, full_one_block().signed.digest)}, SEGMENTS),
        ({"old": None}, MANIFEST),
    ],
)
def test_manifests_that_break_a_rule(core: Core, changes: dict[str, Any], error: int) -> None:
    the_same(core, rebuilt(delta_raw(), **changes), error)


def put(at: int, *values: int) -> Callable[[bytearray], object]:
    def change(index: bytearray) -> None:
        index[at : at + len(values)] = bytes(values)

    return change


@pytest.mark.parametrize(
    ("at", "values"),
    [
        (0, (0x0D,)),  # numbered
        (0, (0x0E,)),  # windowed
        (0, (0x04,)),
        (0, (0x08,)),
        (1, (1,)),
        (1, (3,)),
        (2, (1,)),  # operations
        (2, (3,)),
        (2, (5,)),
        (2, (7,)),
        (2, (255,)),
        (3, (1,)),  # coders
        (3, (3,)),
        (4, (1,)),  # lengths of COPY, DELTA, FILL, RAW
        (2 + RECORD_BYTES + 2, (1, 0x10)),
        (2 + 2 * RECORD_BYTES + 2, (2,)),
        (2 + 3 * RECORD_BYTES + 2, (0xFF, 0x0F)),
        (2 + RECORD_BYTES - 32, (0,) * 32),  # hashes of old parts
        (2 + 3 * RECORD_BYTES - 1, (1,)),
    ],
)
def test_indexes_that_break_a_rule(core: Core, at: int, values: tuple[int, ...]) -> None:
    the_same(core, rebuilt(delta_raw(), index=put(at, *values)), INDEX)


def test_a_compressed_block_needs_a_coder(core: Core) -> None:
    def change(index: bytearray) -> None:
        index[2 + 4 * RECORD_BYTES] = Op.COMPRESSED
        index[-32:] = bytes(32)

    ops = delta_raw().head.manifest.ops | {Op.COMPRESSED}
    the_same(core, rebuilt(delta_raw(), index=change, ops=ops), INDEX)


def test_indexes_of_another_length_or_layout(core: Core) -> None:
    the_same(core, rebuilt(delta_raw(), index=put(0, 0x1C)), UNKNOWN_LAYOUT)
    the_same(core, rebuilt(delta_raw(), index=lambda index: index.append(0)), INDEX)
    the_same(core, rebuilt(delta_raw(), index=lambda index: index.pop()), INDEX)
    the_same(core, rebuilt(delta_raw(), index=lambda index: index.__delitem__(slice(1, None))), INDEX)


def columns(rows: list[tuple[int, int, int]], count: int | None = None) -> bytes:
    coded = encode_varint(len(rows) if count is None else count)
    for column in zip(*rows, strict=True):
        content = b"".join(map(encode_varint, column))
        coded += encode_varint(len(content) << 2) + content
    return coded


MOST = (1 << 63) - 1
OLD_BYTES = 3 * BLOCK


@pytest.mark.parametrize(
    ("rows", "good"),
    [
        ([(0, 100, 0)], True),
        ([(0, OLD_BYTES, 0)], True),
        ([(0, OLD_BYTES + 1, 0)], False),
        ([(4 * BLOCK + 899, 1, zigzag(-4 * BLOCK))], True),
        ([(4 * BLOCK + 900, 1, zigzag(-4 * BLOCK))], False),
        ([(0, 0, 0)], False),
        ([(0, 1 << 32, 0)], False),
        ([(MOST, 1, 0)], False),
        ([(0, MOST, 0)], False),
        ([(0, 1, MOST)], False),
        ([(0, 1, MOST - 1)], False),
        ([(5, 1, zigzag(-5))], True),
        ([(5, 1, zigzag(-6))], False),
        ([(0, 1, zigzag(OLD_BYTES - 1))], True),
        ([(0, 1, zigzag(OLD_BYTES))], False),
        ([(0, 1, 2), (0, 1, MOST)], False),
        ([(0, 1, 0), (MOST, 1, 0)], False),
    ],
)
def test_segments_from_both_sides(core: Core, rows: list[tuple[int, int, int]], good: bool) -> None:
    sample = rebuilt(delta_raw(), segments=columns(rows), segment_count=len(rows))
    if good:  # the head is fine, and block 0 finds another old part than was signed
        assert core.ask(sample).error == 0x2A
        read_head(sample.data[: sample.head_bytes], sample.signed, WIDE)
    else:
        the_same(core, sample, SEGMENTS)


@pytest.mark.parametrize(
    "segments",
    [
        b"",
        columns([(0, 100, 0)]) + b"\0",
        columns([(0, 100, 0)], count=2),
        b"\x81\x00" + columns([(0, 100, 0)])[1:],
        encode_varint(1) + b"\x04\x00\x05\x64\x04\x00",  # coder 1
        encode_varint(1) + b"\x04\x00\x07\x64\x04\x00",  # coder 3
        encode_varint(1) + b"\x04\x00\x04\x64\x08\x00\x00",  # a diagonal left over
        encode_varint(1) + b"\x08\x00\x00\x04\x64\x04\x00",  # a gap left over
        encode_varint(1) + b"\x04\x00\x08\x64\x64\x04\x00",  # a length left over
        encode_varint(1) + b"\x04\x80\x04\x64\x04\x00",  # a gap that goes on in the next column
        encode_varint(1) + b"\x04\x00\x04\xe4\x04\x00",  # a length that does
        encode_varint(1) + b"\x04\x00\x04\x64\x04\x80",
        encode_varint(1) + encode_varint(MOST) + b"\x00\x04\x64\x04\x00",
    ],
)
def test_maps_that_break_a_rule(core: Core, segments: bytes) -> None:
    the_same(core, rebuilt(delta_raw(), segments=segments, segment_count=1), SEGMENTS)


def test_framing(core: Core) -> None:
    sample = full_one_block()
    parts = read_sections(memoryview(sample.data[: sample.head_bytes]))[1]
    both = [(1, 1, bytes(parts[1])), (2, 1, bytes(parts[2]))]

    def body(change: Callable[[bytearray], object]) -> Sample:
        raw = bytearray(sample.data[: sample.head_bytes - 32])
        change(raw)
        return sealed(sample, bytes(raw))

    assert core.ask(sealed(sample, framed(both))).error == 0
    for at in range(4):
        the_same(core, body(put(at, 0)), PREAMBLE)
    the_same(core, body(put(4, 0)), VERSION)
    the_same(core, body(put(4, 2)), VERSION)
    the_same(core, body(put(5, 1)), VERSION)
    the_same(core, body(put(6, 0)), PREAMBLE)
    the_same(core, body(put(6, 17)), PREAMBLE)
    the_same(core, body(put(6, 1)), SECTIONS)
    the_same(core, body(put(17, 0)), SECTIONS)
    the_same(core, body(put(17, 3)), PREAMBLE)
    the_same(core, body(put(16, 2)), PREAMBLE)
    the_same(core, body(put(16, 3)), PREAMBLE)
    the_same(core, body(put(21, 0x80)), SECTIONS)
    the_same(core, body(lambda raw: raw.append(0)), SECTIONS)
    the_same(core, sealed(sample, framed(both[:1])), SECTIONS)
    the_same(core, sealed(sample, framed(both[1:])), SECTIONS)
    the_same(core, sealed(sample, framed([*both, (9, 1, b"x")])), UNKNOWN_SECTION)
    the_same(core, sealed(sample, bytes(16)), PREAMBLE)
    assert core.ask(body(put(12, 255, 255, 255, 255))).error == 0
    for bit in range(
        32
    ):  # this reader has none; the Python reader has some, and then finds the manifest without need of it
        assert core.ask(sealed(sample, framed(both, 1 << bit))).error == FEATURE
    damaged = bytearray(sample.data)
    damaged[sample.head_bytes - 1] ^= 1
    the_same(core, Sample("", None, sample.new, bytes(damaged), sample.head_bytes), HEAD_OWN_HASH)


@pytest.mark.parametrize("length", [0, 47, (1 << 24) + 1, (1 << 32) - 1])
def test_signed_lengths_that_no_head_has(core: Core, length: int) -> None:
    sample = full_one_block()

    class Odd(Sample):
        signed = sample.signed

    answer = core.ask(Odd("", None, sample.new, sample.data, length))
    assert (answer.error, answer.fault) == (HEAD_LENGTH, INCOMPATIBLE)


def test_old_parts_within_their_cap(core: Core) -> None:
    sample = delta_raw()
    longest = sample.head.manifest.max_source_bytes
    assert core.ask(rebuilt(sample, max_source_bytes=longest)).error == 0
    short = core.ask(rebuilt(sample, max_source_bytes=longest - 1))
    assert (short.error, short.slot) == (OLD_PART_LENGTH, b"\xee" * len(sample.new))


def test_the_implied_hash_needs_room_for_the_whole_old_image(core: Core) -> None:
    sample = copy_one_block()
    length = len(sample.old or b"")
    assert sample.head.index[0].source_digest is None
    assert core.ask(rebuilt(sample, max_source_bytes=length)).error == 0
    the_same(core, rebuilt(sample, max_source_bytes=length - 1), INDEX)


def test_a_copy_must_fill_its_block(core: Core) -> None:
    """Of the golden copy the second piece is left out; the old part's hash is implied, so that only the length can refuse it."""
    changed = rebuilt(copy_one_block(), segments=columns([(0, 2000, zigzag(1000))]), segment_count=1)
    answer = core.ask(changed)
    assert (answer.error, set(answer.slot)) == (BLOCK_HASH, {0xEE})
