"""The instruction tables against instructions assembled by hand from the manuals, and against the C header made from them."""

from array import array
from itertools import combinations

import pytest

from packager.vehicle import kernel
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.instructions import ALL_GROUPS, TABLES, Group, InstructionSet, as_c_header
from tests.c.core import C_CODE

THUMB2, ARM32, AARCH64, RISCV, X86 = list(InstructionSet)[1:6]


def context(
    instruction_set: InstructionSet, moved_from: int = 1 << 30, moved_by: int = 0, base: int = 0x70000000
) -> Context:
    """Return rules for 1 MiB in which everything from `moved_from` on moves."""
    return Context(
        bytes((instruction_set,)),
        bytes((int(ALL_GROUPS),)),
        array("Q", (base,)),
        bytes(256),
        array("Q", (0, moved_from)),
        array("q", (0, moved_by)),
        1 << 20,
        1 << 20,
    )


def word(*numbers: int, width: int = 4) -> bytes:
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def halves(*numbers: int) -> bytes:
    return word(*numbers, width=2)


# instruction set, place, machine code, place of the target, machine code of the same for a target 0x100 further on
ASSEMBLED = [
    (THUMB2, "bl", 0x1000, halves(0xF000, 0xF8FE), 0x1200, halves(0xF000, 0xF97E)),
    (THUMB2, "bl back", 0x1000, halves(0xF7FF, 0xFFFE), 0x1000, halves(0xF000, 0xF87E)),
    (THUMB2, "b.w", 0x1000, halves(0xF000, 0xB8FE), 0x1200, halves(0xF000, 0xB97E)),
    (THUMB2, "beq.w", 0x1000, halves(0xF000, 0x80FE), 0x1200, halves(0xF000, 0x817E)),
    (THUMB2, "ble.w", 0x1000, halves(0xF340, 0x80FE), 0x1200, halves(0xF340, 0x817E)),
    (THUMB2, "b.n", 0x1000, halves(0xE0FE), 0x1200, halves(0xE17E)),
    (THUMB2, "ldr r0, [pc, #0x40]", 0x1002, halves(0x4810), 0x1044, halves(0x4850)),
    (ARM32, "bl", 0x1000, word(0xEB00007E), 0x1200, word(0xEB0000BE)),
    (ARM32, "bne back", 0x1000, word(0x1AFFFFFE), 0x1000, word(0x1A00003E)),
    (AARCH64, "bl", 0x1000, word(0x94000080), 0x1200, word(0x940000C0)),
    (AARCH64, "b.eq back", 0x1000, word(0x54FFFFE0), 0xFFC, word(0x540007E0)),
    (AARCH64, "cbnz w3", 0x1000, word(0x35001003), 0x1200, word(0x35001803)),
    (AARCH64, "tbz w3, #1", 0x1000, word(0x36081003), 0x1200, word(0x36081803)),
    (AARCH64, "ldr x1, literal", 0x1000, word(0x58001001), 0x1200, word(0x58001801)),
    (AARCH64, "adrp; add", 0x1000, word(0xB0000001, 0x91080021), 0x2200, word(0xB0000001, 0x910C0021)),
    (AARCH64, "adrp; ldr x", 0x1000, word(0xB0000001, 0xF9410022), 0x2200, word(0xB0000001, 0xF9418022)),
    (AARCH64, "adrp; nop; strb", 0x1000, word(0xB0000001, 0xD503201F, 0x393C0022), 0x2F00, None),
    (RISCV, "jal", 0x1000, word(0x200000EF), 0x1200, word(0x300000EF)),
    (RISCV, "jal back", 0x1000, word(0xFFDFF0EF), 0xFFC, word(0x0FC000EF)),
    (RISCV, "beq", 0x1000, word(0x20000063), 0x1200, word(0x30000063)),
    (RISCV, "c.j", 0x1000, halves(0xA401), 0x1200, halves(0xA601)),
    (RISCV, "auipc; addi", 0x1000, word(0x00001097, 0x20008093), 0x2200, word(0x00001097, 0x30008093)),
    (RISCV, "auipc; lw (carry)", 0x1000, word(0x00001097, 0x8000A103), 0x1800, word(0x00001097, 0x9000A103)),
    (RISCV, "auipc; c.nop; sw", 0x1000, word(0x00001097) + halves(1) + word(0x2020A023), 0x2200, None),
    (X86, "call", 0x1000, b"\xe8" + word(0x1FB), 0x1200, b"\xe8" + word(0x2FB)),
    (X86, "jne back", 0x1000, b"\x0f\x85" + word(0xFFFFFFFA), 0x1000, b"\x0f\x85" + word(0xFA)),
    (X86, "lea rax, [rip+x]", 0x1000, b"\x48\x8d\x05" + word(0x1F9), 0x1200, b"\x48\x8d\x05" + word(0x2F9)),
    (X86, "mov ecx, [rip+x]", 0x1000, b"\x8b\x0d" + word(0x1FA), 0x1200, b"\x8b\x0d" + word(0x2FA)),
]


@pytest.mark.parametrize(
    ("instruction_set", "place", "machine", "target", "further"),
    [(row[0], *row[2:]) for row in ASSEMBLED],
    ids=[f"{row[0].name.lower()} {row[1]}" for row in ASSEMBLED],
)
def test_the_target_moves_and_the_instruction_does_not(
    instruction_set: InstructionSet, place: int, machine: bytes, target: int, further: bytes | None
) -> None:
    """Old code with everything from the target on 0x100 further on becomes, unmade, what an assembler would have made."""
    for target_from, expected in ((target + 1, machine), (target, further)):
        rules = context(instruction_set, target_from, 0x100)
        code = bytearray(machine)
        kernel.label_source(rules, code, array("Q", (place, len(code), place)))
        kernel.label_block(rules, Kind.UNLABEL, code, place)
        if expected is not None:
            assert code.hex() == expected.hex()
    assert code != machine


@pytest.mark.parametrize("row", ASSEMBLED, ids=[f"{row[0].name.lower()} {row[1]}" for row in ASSEMBLED])
def test_labels_of_both_images_are_the_same(row: tuple[InstructionSet, str, int, bytes, int, bytes | None]) -> None:
    """The instruction alone moves; its old bytes as labels are the labels of its new bytes."""
    instruction_set, _, place, machine, _, _ = row
    rules, further = context(instruction_set), place + 0x1040
    labels = bytearray(machine)
    kernel.label_source(rules, labels, array("Q", (further, len(labels), place)))
    moved = bytearray(labels)
    kernel.label_block(rules, Kind.UNLABEL, moved, further)
    assert moved != machine
    kernel.label_block(rules, Kind.LABEL, moved, further)
    assert moved == labels


@pytest.mark.parametrize(("width", "group"), [(4, Group.ABSOLUTE32), (8, Group.ABSOLUTE64)])
def test_pointers_need_alignment_and_a_target_in_the_old_image(width: int, group: Group) -> None:
    base = 0x08000000
    rules = context(InstructionSet.NONE, 0x800, 0x100, base)
    for offset, place, moves in (
        (0x800, 64, True),
        (0x7FF, 64, False),
        ((1 << 20) - 1, 64, True),
        (1 << 20, 64, False),
        (0x800, 66, False),
    ):
        pointer = bytearray((base + offset).to_bytes(width, "little"))
        kernel.label_source(rules, pointer, array("Q", (place, width, place)))
        assert int.from_bytes(pointer, "little") == base + offset + 0x100 * moves
        kernel.label_block(rules, Kind.LABEL, pointer, place)
        assert int.from_bytes(pointer, "little") == base + offset + 0x100 * moves
    del group


@pytest.mark.parametrize("instruction_set", [kind for kind in InstructionSet if TABLES[kind]])
def test_rows_leave_alone_what_tells_them_apart(instruction_set: InstructionSet) -> None:
    """No rewriting touches a bit of a mask, or of the length of the instruction; else it could not be undone."""
    lengths = {THUMB2: 0xF800, RISCV: 0x3}.get(instruction_set, 0)
    for row in TABLES[instruction_set]:
        field = sum(((1 << piece.width) - 1) << piece.at for piece in row.slices)
        label = sum(((1 << piece.width) - 1) << piece.at for piece in row.label_slices)
        assert field == label
        assert field.bit_count() == row.bits
        assert not field & (row.mask | lengths)
        assert not row.value & ~row.mask
        assert field | row.mask < 1 << 8 * row.width_bytes
        assert len(row.slices) <= 8
        assert len(row.label_slices) <= 4 or instruction_set is RISCV


@pytest.mark.parametrize("instruction_set", [kind for kind in InstructionSet if TABLES[kind]])
def test_no_instruction_matches_two_rows(instruction_set: InstructionSet) -> None:
    for first, second in combinations(TABLES[instruction_set], 2):
        if first.width_bytes == second.width_bytes:
            assert (first.value ^ second.value) & first.mask & second.mask, f"{first.name} and {second.name}"


def test_the_c_header_is_made_from_the_tables() -> None:
    assert (C_CODE / "instructions.h").read_text() == as_c_header()


def test_addresses_go_on_behind_the_last_segment_and_outside_the_image() -> None:
    rules = Context(b"\1", b"\1", array("Q", (0,)), b"\0", array("Q", (100, 200)), array("q", (-50, 7)), 300, 300)
    found = [rules.map(offset) for offset in (0, 99, 100, 199, 200, 299, 300, 1 << 40)]
    assert found == [(0 - 50) % (1 << 64), 49, 50, 149, 207, 306, 300, 1 << 40]
    assert Context(b"", b"", array("Q"), b"", array("Q"), array("q"), 300, 300).map(5) == 5
