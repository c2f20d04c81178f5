"""Bundles with predicted blocks, written by hand: what the packager's encoder would choose has no part in them."""

import random
from array import array
from collections.abc import Sequence
from functools import cache

from packager.bundle.columns import Column, encode_column
from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.diff import zstd
from packager.diff.prediction import NO_VALUES, Mode, Prediction, Values, make_context
from packager.vehicle import _pure_adaptive, _pure_predict
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.predicted import (
    ADAPTIVE,
    LITERALS_KNOW_OLD,
    LITERALS_KNOW_SOURCE,
    WITHOUT_PIECES,
    label_whole,
)
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.identity import ImageId
from packager.vehicle.instructions import ALL_GROUPS, Group, InstructionSet
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint
from sample_images.modules import KnownEdit
from sample_images.synthesiser import FirmwareSpec, synthesise_bytes, with_edit
from tests.predicted_cases import code
from tests.sample_bundles import ALL_CODERS, BLOCK, BLOCK_LOG2, Sample, noise

UNIT_1, UNIT_2, UNIT_4 = 0, 1, 2
RAW_AND_ZSTD = frozenset({Coder.RAW, Coder.ZSTD})


def residuals(made: bytes, wanted: bytes, pieces: Sequence[tuple[int, int]], unit: int) -> tuple[bytes, bytes]:
    """Return gaps and values, straight from the definition."""
    covered = sorted({at // unit for first, length in pieces for at in range(first, first + length)})
    gaps, values, waiting = b"", b"", 0
    for number in covered:
        before, after = (data[number * unit : (number + 1) * unit] for data in (made, wanted))
        if before == after:
            waiting += 1
            continue
        difference = int.from_bytes(after, "little") - int.from_bytes(before, "little")
        gaps += encode_varint(waiting)
        values += (difference % (1 << 8 * len(before))).to_bytes(unit, "little")
        waiting = 0
    return gaps, values


def predicted_block(
    context: Context,
    segments: SegmentMap,
    block: int,
    block_bytes: int,
    old: bytes,
    new: bytes,
    flags: int,
    coders: frozenset[Coder] = RAW_AND_ZSTD,
) -> CodedBlock:
    """Code one block with the given flags."""
    start = block * block_bytes
    output = new[start : start + block_bytes]
    pieces = segments.pieces(start, start + len(output))
    old_part = b"".join(old[piece.old_offset :][: piece.length_bytes] for piece in pieces)
    pieces = [] if flags & WITHOUT_PIECES else pieces
    wanted = bytearray(output)
    _pure_predict.label_block(context, Kind.LABEL, wanted, start)
    made, source, literals, at = bytearray(wanted), b"", b"", 0
    for new_offset, old_offset, length in pieces:
        piece = bytearray(old[old_offset : old_offset + length])
        _pure_predict.label_source(context, piece, array("Q", (new_offset, length, old_offset)))
        literals += wanted[at : new_offset - start]
        at = new_offset - start + length
        made[at - length : at] = piece
        source += piece
    literals += wanted[at:]
    whole = bytearray(old)
    label_whole(context, whole)
    prefix = bytes(whole) if flags & LITERALS_KNOW_OLD else source if flags & LITERALS_KNOW_SOURCE else b""
    literal_column = encode_column(literals, coders)
    if prefix and literals and Coder.LZMA in coders:
        coded = (
            b"\2" + (len(literals) - 1).to_bytes(2, "big") + literals + b"\0"
        )  # a stored chunk: no encoder is needed
        head = encode_varint(len(literals) << 2 | Coder.LZMA) + encode_varint(len(coded))
        literal_column = Column(head + coded, len(literals), Coder.LZMA, 0)
    elif prefix and literals:
        coded = zstd.compress(literals, 19, prefix)
        head = encode_varint(len(literals) << 2 | Coder.ZSTD) + encode_varint(len(coded))
        literal_column = Column(head + coded, len(literals), Coder.ZSTD, zstd.window_log2(coded))
    covered = [(new_offset - start, length) for new_offset, _, length in pieces]
    stream = b""
    columns = [literal_column]
    if flags & ADAPTIVE:
        stream = _pure_adaptive.write_adaptive(made, wanted, [number for piece in covered for number in piece])
    else:
        others = residuals(bytes(made), bytes(wanted), covered, 1 << (flags & 3))
        columns += [encode_column(column, coders) for column in others]
    return CodedBlock(
        block,
        Op.PREDICTED,
        Coder.RAW,
        bytes((flags,)) + b"".join(column.encoded for column in columns) + stream,
        output,
        old_part,
        decoded_bytes=sum(column.decoded_bytes for column in columns),
        window_log2=max(column.window_log2 for column in columns),
        coders=frozenset({Coder.ADAPTIVE} if flags & ADAPTIVE else ()) | {column.coder for column in columns},
    )


def predicted(
    name: str,
    old: bytes,
    new: bytes,
    modes: Sequence[Mode],
    segments: Sequence[Segment],
    flags: Sequence[int],
    *,
    pages: bytes = b"",
    block_log2: int = BLOCK_LOG2,
    coders: frozenset[Coder] = RAW_AND_ZSTD,
    values: Values = NO_VALUES,
) -> Sample:
    """Write a bundle of predicted blocks, with the given flags in turn."""
    context = make_context(modes, pages or bytes(page_count(len(new))), old, new, segments, values)
    count = -(-len(new) >> block_log2)
    blocks = [
        predicted_block(context, SegmentMap.of(segments), n, 1 << block_log2, old, new, flags[n % len(flags)], coders)
        for n in range(count)
    ]
    prediction = Prediction(tuple(modes), context, segments)
    written = write_bundle(
        Identity(new=ImageId.of(new), old=ImageId.of(old), block_log2=block_log2), blocks, segments, coders, prediction
    )
    return Sample(name, old, new, written.data, written.head_bytes)


def follow(old: bytes, mode: Mode, segments: Sequence[Segment], new_bytes: int) -> bytearray:
    """Return a new image whose references all lead where the old ones led: what a linker would make of moved code."""
    new = bytearray(noise(len(segments), new_bytes))
    context = make_context([mode], bytes(page_count(new_bytes)), old, bytes(new), segments)
    for new_offset, old_offset, length in segments:
        piece = bytearray(old[old_offset : old_offset + length])
        _pure_predict.label_source(context, piece, array("Q", (new_offset, length, old_offset)))
        new[new_offset : new_offset + length] = piece
    _pure_predict.label_block(context, Kind.UNLABEL, new, 0)
    return new


def firmware(isa: str) -> tuple[bytes, bytes]:
    """Return the start of generated firmware, and of the same with one instruction more."""
    spec = FirmwareSpec(isa, 64 << 10, 13)
    return (synthesise_bytes(spec)[:10_000], synthesise_bytes(with_edit(spec, KnownEdit.INSERT_INSTRUCTION))[:10_004])


def moved(instruction_set: InstructionSet, groups: int, base: int = 0, count: int = 6000) -> tuple[bytes, bytes, Mode]:
    """Return code of an instruction set, the same 20 bytes further on with some bytes changed, and the mode."""
    old, mode = code(int(instruction_set), instruction_set, count), Mode(instruction_set, Group(groups), base)
    new = follow(old, mode, behind_an_insertion(count), count + 20)
    for at in range(333, len(new), 777):
        new[at] ^= 0x11
    return old, bytes(new), mode


def behind_an_insertion(count: int) -> list[Segment]:
    return [Segment(0, 0, 256), Segment(276, 256, count - 256)]


@cache
def thumb2() -> Sample:
    old, new = firmware("thumb2")
    place = next(at for at in range(len(old)) if old[at] != new[at] and old[at:][:8] == new[at + 4 :][:8]) & ~1
    segments = [Segment(0, 0, place), Segment(place + 4, place, len(old) - place)]
    modes = [
        Mode(InstructionSet.THUMB2, ALL_GROUPS & ~Group.ABSOLUTE64, 0x08000000),
        Mode(InstructionSet.NONE, Group(0), 0),
    ]
    return predicted("predicted-thumb2", old, new, modes, segments, [UNIT_2], pages=b"\0\0\1")


@cache
def aarch64() -> Sample:
    old, new = firmware("aarch64")
    place = next(at for at in range(len(old)) if old[at] != new[at] and old[at:][:8] == new[at + 4 :][:8]) & ~3
    segments = [Segment(0, 0, place), Segment(place + 4, place, len(old) - place)]
    modes = [Mode(InstructionSet.AARCH64, ALL_GROUPS & ~Group.ABSOLUTE32, 0x80000)]
    return predicted("predicted-aarch64", old, new, modes, segments, [UNIT_4 | LITERALS_KNOW_SOURCE, UNIT_4])


@cache
def arm32() -> Sample:
    old, new, mode = moved(InstructionSet.ARM32, Group.CALLS | Group.ABSOLUTE32)
    flags = [UNIT_4 | LITERALS_KNOW_OLD]
    return predicted("predicted-arm32", old, new, [mode], behind_an_insertion(len(old)), flags, block_log2=13)


@cache
def riscv() -> Sample:
    old, new, mode = moved(InstructionSet.RISCV, ALL_GROUPS, 0x20400000)
    return predicted("predicted-riscv", old, new, [mode], behind_an_insertion(len(old)), [UNIT_2, UNIT_4])


@cache
def x86() -> Sample:
    old, new, mode = moved(InstructionSet.X86, ALL_GROUPS, 0x400000)
    return predicted("predicted-x86", old, new, [mode], behind_an_insertion(len(old)), [UNIT_1])


@cache
def pointers() -> Sample:
    """Return one with a table of 32-bit and one of 64-bit pointers, each in its own pages."""
    chance = random.Random(4)
    base32, base64 = 0x08040000, 0xFFFF800000080000
    old = b"".join((base32 + chance.randrange(8192)).to_bytes(4, "little") for _ in range(1024))
    old += b"".join((base64 + chance.randrange(8192)).to_bytes(8, "little") for _ in range(512))
    modes = [
        Mode(InstructionSet.NONE, Group.ABSOLUTE32, base32),
        Mode(InstructionSet.NONE, Group.ABSOLUTE64, base64),
    ]
    segments = [Segment(0, 0, 4000), Segment(4096, 4096, 96), Segment(4200, 4192, 4000)]
    new = bytearray(noise(4, 8200))
    context = make_context(modes, b"\0\1\1", old, bytes(new), segments)
    for new_offset, old_offset, length in segments:
        piece = bytearray(old[old_offset : old_offset + length])
        _pure_predict.label_source(context, piece, array("Q", (new_offset, length, old_offset)))
        new[new_offset : new_offset + length] = piece
    new[500] ^= 1
    return predicted("predicted-pointers", old, bytes(new), modes, segments, [UNIT_4], pages=b"\0\1\1")


@cache
def numbers() -> Sample:
    """Return one with a table of numbers, most of which the value map knows, and with code between that only its first page has."""
    chance = random.Random(5)
    values = (array("I", (0, 1, 7, 300, 65_536, (1 << 32) - 1)), array("I", (5, 0, 9, 298, 1 << 31, 2)))
    old = b"".join(chance.choice((*values[0], 2, 301)).to_bytes(4, "little") for _ in range(1500))
    old += code(5, InstructionSet.THUMB2, 3000)
    modes = [
        Mode(InstructionSet.NONE, Group.VALUES, 0),
        Mode(InstructionSet.THUMB2, Group.CALLS | Group.VALUES | Group.ABSOLUTE32, (1 << 64) - 100),
    ]
    segments = [Segment(0, 0, 4003), Segment(4008, 4004, 4992)]
    new = bytearray(noise(5, 9003))
    context = make_context(modes, b"\0\1\0", old, bytes(new), segments, values)
    for new_offset, old_offset, length in segments:
        piece = bytearray(old[old_offset : old_offset + length])
        _pure_predict.label_source(context, piece, array("Q", (new_offset, length, old_offset)))
        new[new_offset : new_offset + length] = piece
    _pure_predict.label_block(context, Kind.UNLABEL, new, 0)
    new[700] ^= 1
    return predicted("predicted-values", old, bytes(new), modes, segments, [UNIT_4], pages=b"\0\1\0", values=values)


@cache
def labels() -> Sample:
    """Return one whose only block is all literals that refer to the whole labelled old image."""
    old, new, mode = moved(InstructionSet.THUMB2, Group.CALLS | Group.LITERALS, count=3000)
    return predicted(
        "predicted-labels", old, new, [mode], behind_an_insertion(len(old)), [LITERALS_KNOW_OLD | WITHOUT_PIECES]
    )


@cache
def mixed() -> Sample:
    """Return one with every instruction set, pages that take turns, pieces cut anywhere, and all units."""
    old = b"".join(code(number, InstructionSet(number % 6), 3001) for number in range(1, 7))
    segments, at, chance = [], 0, random.Random(6)
    while at < 5 * BLOCK:
        length = chance.randint(3, 900)
        segments.append(Segment(at, chance.randrange(len(old) - 900), length))
        at += length + chance.choice((0, 0, 1, 2, 30))
    new = bytearray(code(99, InstructionSet.AARCH64, at + 5))
    for new_offset, old_offset, length in segments:
        new[new_offset : new_offset + length] = old[old_offset : old_offset + length]
    modes = [Mode(InstructionSet(number), ALL_GROUPS, number << 13) for number in range(6)]
    flags = [UNIT_1, UNIT_2 | LITERALS_KNOW_SOURCE, UNIT_4]
    pages = bytes((3, 4, 1, 5, 2, 0))[: page_count(len(new))]
    return predicted("predicted-mixed", old, bytes(new), modes, segments, flags, pages=pages, coders=ALL_CODERS)


@cache
def adaptive() -> Sample:
    """Return one with adaptive residuals: pieces cut anywhere, a last unit of one byte, and a block that has gaps and values."""
    old = b"".join(code(number, InstructionSet.THUMB2, 3001) for number in range(1, 5))
    segments, at, chance = [], 0, random.Random(14)
    while at < 2 * BLOCK:
        length = chance.randint(1, 1500)
        segments.append(Segment(at, chance.randrange(len(old) - 1500), length))
        at += length + chance.choice((0, 0, 1, 2, 30))
    new = bytearray(code(98, InstructionSet.THUMB2, at + 7 - at % 2))
    for new_offset, old_offset, length in segments:
        new[new_offset : new_offset + length] = old[old_offset : old_offset + length]
    for at in range(100, len(new), 41):
        new[at] = (new[at] + chance.choice((4, 8, 8, 200))) & 0xFF
    segments.append(Segment(len(new) - 1, 5, 1))
    modes = [Mode(InstructionSet.THUMB2, Group.CALLS, 0)]
    flags = [UNIT_2 | ADAPTIVE | LITERALS_KNOW_SOURCE, UNIT_2, UNIT_2 | ADAPTIVE]
    return predicted("predicted-adaptive", old, bytes(new), modes, segments, flags)


@cache
def btree() -> Sample:
    """Return pages of a database: lists of cells with their header and without, and a page that is none."""
    old = code(3, InstructionSet.BTREE, 4 * 4096 + 1000)
    segments = [
        Segment(0, 0, 40),
        Segment(42, 40, 4200),
        Segment(4250, 4251, 5000),
        Segment(9300, 2 * 4096 + 21, 2900),
        Segment(12_288, 12_288, 5000),
    ]
    mode = Mode(InstructionSet.BTREE, Group.CALLS, 0)
    new = follow(old, mode, segments, 17_300)
    for at in range(333, len(new), 777):
        new[at] ^= 0x11
    flags = [UNIT_2, UNIT_1 | LITERALS_KNOW_SOURCE]
    modes = [mode, Mode(InstructionSet.NONE, Group(0), 0)]
    return predicted("predicted-btree", old, bytes(new), modes, segments, flags, pages=b"\0\0\0\1\0")


@cache
def tables() -> Sample:
    """Return a table of distances, one of records little-endian and one big-endian, over several pages; pieces are cut within records."""
    old = code(7, InstructionSet.DISTANCES, 5000) + code(8, InstructionSet.RECORDS, 9000)
    old += code(9, InstructionSet.RECORDS, 6000)[::-1]
    modes = [
        Mode(InstructionSet.DISTANCES, Group.CALLS, 1 << 12),
        Mode(InstructionSet.RECORDS, Group.CALLS, 12),
        Mode(InstructionSet.RECORDS, Group.CONDITIONAL, 12),
    ]
    pages = b"\0\1\1\2\2"
    segments = [
        Segment(0, 0, 1200),
        Segment(1212, 1200, 6000),
        Segment(7215, 7200, 3333),
        Segment(10_560, 10_539, 9000),
    ]
    new = bytearray(noise(7, 19_566))
    context = make_context(modes, pages, old, bytes(new), segments)
    _pure_predict.label_block(context, Kind.LABEL, new, 0)
    for new_offset, old_offset, length in segments:
        piece = bytearray(old[old_offset : old_offset + length])
        _pure_predict.label_source(context, piece, array("Q", (new_offset, length, old_offset)))
        new[new_offset : new_offset + length] = piece
    _pure_predict.label_block(context, Kind.UNLABEL, new, 0)
    for at in range(333, len(new), 777):
        new[at] ^= 0x11
    flags = [UNIT_4, UNIT_1 | LITERALS_KNOW_SOURCE]
    return predicted("predicted-tables", old, bytes(new), modes, segments, flags, pages=pages)


def predicted_samples() -> list[Sample]:
    made = [thumb2(), aarch64(), arm32(), riscv(), x86(), pointers(), numbers(), labels(), mixed(), btree()]
    return [*made, adaptive(), tables()]
