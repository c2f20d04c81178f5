"""Encodings, against values that an assembler gives, and their limits."""

import struct
from collections.abc import Callable

import pytest

from sample_images.instructions import PIECES, InstructionSet
from sample_images.instructions_aarch64 import AARCH64
from sample_images.instructions_thumb2 import THUMB2, VECTORS

SETS: tuple[InstructionSet, ...] = (THUMB2, AARCH64)


def thumb(text: str) -> int:
    """Return two halfwords, written as a disassembler prints them, as one little-endian word."""
    first, second = text.split()
    return int(first, 16) | int(second, 16) << 16


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (THUMB2.call(0x1000, 0x1004), "f000 f800"),
        (THUMB2.call(0x1000, 0x1000), "f7ff fffe"),
        (THUMB2.call(0x1000, 0x2000), "f000 fffe"),
        (THUMB2.call(0, (1 << 24) + 2), "f3ff d7ff"),
        (THUMB2.call(0x0100_0000, 4), "f400 d000"),
        (THUMB2.branch(0x1000, 0x1000, 0), "f43f affe"),  # beq.w .
        (THUMB2.branch(0x1000, 0x1104, 1), "f040 8080"),  # bne.w .+0x104
        (THUMB2.load_literal(0x1000, 0x1010, 3), "f8df 300c"),  # ldr.w r3, [pc, #12]
        (THUMB2.load_literal(0x1002, 0x1010, 0), "f8df 000c"),  # the program counter is rounded down to a word
    ],
)
def test_thumb2(word: int, expected: str) -> None:
    assert word == thumb(expected)


def test_thumb2_address_pair() -> None:
    pair = THUMB2.load_address(0, 0x2000_ABCD, 1)
    assert (pair & 0xFFFFFFFF, pair >> 32) == (
        thumb("f64a 31cd"),
        thumb("f2c2 0100"),
    )  # movw r1, #0xabcd; movt r1, #0x2000


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (AARCH64.call(0x1000, 0x1004), 0x94000001),
        (AARCH64.call(0x1000, 0xFFC), 0x97FFFFFF),
        (AARCH64.branch(0x1000, 0x1008, 1), 0x54000040),  # b.eq .+8
        (AARCH64.branch(0x1000, 0x1008, 0), 0xB4000040),  # cbz x0, .+8
        (AARCH64.branch(0x1000, 0xFFC, 2), 0xB5FFFFE0),  # cbnz x0, .-4
        (AARCH64.load_literal(0x1000, 0x1008, 5), 0x58000045),  # ldr x5, .+8
    ],
)
def test_aarch64(word: int, expected: int) -> None:
    assert word == expected


def test_aarch64_address_pair() -> None:
    pair = AARCH64.load_address(0x1FFC, 0x2010, 3)
    assert (pair & 0xFFFFFFFF, pair >> 32) == (0xB0000003, 0x91004063)  # adrp x3, .+1 page; add x3, x3, #16
    assert AARCH64.load_address(0x2000, 0x1000, 0) & 0xFFFFFFFF == 0xF0FFFFE0  # adrp x0, .-1 page


@pytest.mark.parametrize(
    ("encode", "last", "step"),
    [
        (lambda at: THUMB2.call(0x100_0000, 0x100_0004 + at), (1 << 24) - 2, 2),
        (lambda at: THUMB2.branch(0x100_0000, 0x100_0004 + at, 0), (1 << 20) - 2, 2),
        (lambda at: AARCH64.call(0x1000_0000, 0x1000_0000 + at), (1 << 27) - 4, 4),
        (lambda at: AARCH64.branch(0x1000_0000, 0x1000_0000 + at, 1), (1 << 20) - 4, 4),
        (lambda at: AARCH64.load_literal(0x1000_0000, 0x1000_0000 + at, 1), (1 << 20) - 4, 4),
    ],
    ids=["thumb2 call", "thumb2 branch", "aarch64 call", "aarch64 branch", "aarch64 literal"],
)
def test_reach_is_checked_from_both_sides(encode: Callable[[int], int], last: int, step: int) -> None:
    encode(last)
    encode(-last - step)
    for beyond in (last + step, -last - 2 * step):
        with pytest.raises(ValueError, match="expected within"):
            encode(beyond)


def test_thumb2_literal_reach_is_checked_from_both_sides() -> None:
    THUMB2.load_literal(0, 4, 0)
    THUMB2.load_literal(0, 4 + 4095, 0)
    for literal in (3, 4 + 4096):
        with pytest.raises(ValueError, match="expected 0 to 4095"):
            THUMB2.load_literal(0, literal, 0)


@pytest.mark.parametrize("isa", SETS)
def test_free_fields_of_a_piece_are_zero_in_its_template(isa: InstructionSet) -> None:
    assert len(isa.pieces) == PIECES
    assert len({piece.template for piece in isa.pieces}) > PIECES * 0.9
    for piece in isa.pieces:
        assert len(piece.template) == len(piece.mask)
        assert len(piece.template) % 4 == 0
        assert not any(template & mask for template, mask in zip(piece.template, piece.mask, strict=True))


def test_vector_tables() -> None:
    words = struct.unpack(f"<{VECTORS}I", THUMB2.vectors([0x0800_0200, 0x0800_0300]))
    assert words[0] == 0x2004_0000
    assert words[1:4] == (0x0800_0201, 0x0800_0301, 0x0800_0301)
    table = AARCH64.vectors([AARCH64.base_address + 0x840])
    assert len(table) == 0x800
    assert struct.unpack_from("<2I", table, 0x80) == (0x14000000 | 0x7C0 >> 2, 0xD503201F)
