"""Instruction sets as tables: which bit patterns carry the address of something else, and how.

Predicted blocks (FORMAT.md section 13) rewrite these fields. The same tables drive the pure Python twin and the compiled kernel:
``python -m packager.vehicle.instructions`` prints ``instructions.h``, and a test holds the file to it.

Sources: Arm Architecture Reference Manuals (ARMv7-M DDI 0403, ARMv8-A DDI 0487), RISC-V Unprivileged ISA 20191213, Intel SDM volume 2.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final


class InstructionSet(IntEnum):
    """Ids of instruction sets in section 4 of a head."""

    NONE = 0
    THUMB2 = 1
    ARM32 = 2
    AARCH64 = 3
    RISCV = 4
    X86 = 5
    BTREE = 6
    """Not instructions but pages of a database (SQLite file format, 1.6): where the cells of a page are."""
    DISTANCES = 7
    """Tables of 4-byte distances from their own place: exports, exceptions, jump labels, unwind tables."""
    RECORDS = 8
    """Tables of records of one length whose fields grow slowly: symbols, relocations, an index."""


class Group(IntFlag):
    """Kinds of references that a page mode switches on."""

    CALLS = 1
    CONDITIONAL = 2
    PAIRS = 4
    SHORT = 8
    ABSOLUTE32 = 16
    ABSOLUTE64 = 32
    LITERALS = 64
    VALUES = 128
    """Numbers of 4 bytes that are no addresses; the head says what they become."""


ALL_GROUPS: Final = Group(255)


class Form(IntEnum):
    """How a field becomes a target."""

    RELATIVE = 0
    SIGN_INVERTED = 1
    """Relative; in machine code the two bits below the sign are inverted when the sign is clear (Thumb-2 BL, DDI 0403 A7.7.18)."""
    PAGE = 2
    """Relative in pages of 4 KiB; instructions that follow add the offset in the page (AArch64 ADRP)."""
    PAIR = 3
    """Upper 20 bits of a relative address; one instruction that follows adds the signed lower 12 (RISC-V AUIPC)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """`width` bits of an instruction from bit `at` on are the bits of the field from bit `field` on."""

    at: int
    width: int
    field: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row.

    Attributes:
        name: For people.
        mask: Bits of the (little-endian) instruction that decide.
        value: What they must be.
        width_bytes: Length of what is rewritten, 2 or 4 bytes.
        group: Which switch it belongs to.
        form: How the field becomes a target.
        slices: Where the field is in machine code.
        scale: log2 of the unit of the field.
        bias: Added to the address of the instruction.
        align: The address with the bias is rounded down to a multiple of this.
        is_signed: Whether the field is.
    """

    name: str
    mask: int
    value: int
    width_bytes: int
    group: Group
    form: Form
    slices: tuple[Slice, ...]
    scale: int
    bias: int = 0
    align: int = 1
    is_signed: bool = True

    @property
    def bits(self) -> int:
        """Width of the field."""
        return sum(piece.width for piece in self.slices)

    @property
    def label_slices(self) -> tuple[Slice, ...]:
        """Where a label stands: the same bits, in ascending order."""
        taken = sorted(bit for piece in self.slices for bit in range(piece.at, piece.at + piece.width))
        made: list[Slice] = []
        for index, bit in enumerate(taken):
            if made and made[-1].at + made[-1].width == bit:
                made[-1] = Slice(made[-1].at, made[-1].width + 1, made[-1].field)
            else:
                made.append(Slice(bit, 1, index))
        return tuple(made)


def _slices(*triples: tuple[int, int, int]) -> tuple[Slice, ...]:
    return tuple(Slice(*triple) for triple in triples)


_THUMB_FAR = _slices((0, 10, 11), (10, 1, 23), (16, 11, 0), (27, 1, 21), (29, 1, 22))
_THUMB_CONDITIONAL = _slices((0, 6, 11), (10, 1, 19), (16, 11, 0), (27, 1, 18), (29, 1, 17))
_RISCV_JUMP = _slices((12, 8, 11), (20, 1, 10), (21, 10, 0), (31, 1, 19))
_RISCV_BRANCH = _slices((7, 1, 10), (8, 4, 0), (25, 6, 4), (31, 1, 11))
_RISCV_SHORT = _slices((2, 1, 4), (3, 3, 0), (6, 1, 6), (7, 1, 5), (8, 1, 9), (9, 2, 7), (11, 1, 3), (12, 1, 10))
_IMM19 = _slices((5, 19, 0))

TABLES: Final[dict[InstructionSet, tuple[Instruction, ...]]] = {
    InstructionSet.NONE: (),
    InstructionSet.THUMB2: (
        Instruction("BL", 0xD000F800, 0xD000F000, 4, Group.CALLS, Form.SIGN_INVERTED, _THUMB_FAR, 1, 4),
        Instruction("B.W", 0xD000F800, 0x9000F000, 4, Group.CALLS, Form.SIGN_INVERTED, _THUMB_FAR, 1, 4),
        # Bcc.W with conditions 0 to 13; 14 and 15 are other instructions.
        Instruction("Bcc.W", 0xD000FA00, 0x8000F000, 4, Group.CONDITIONAL, Form.RELATIVE, _THUMB_CONDITIONAL, 1, 4),
        Instruction("Bcc.W", 0xD000FB00, 0x8000F200, 4, Group.CONDITIONAL, Form.RELATIVE, _THUMB_CONDITIONAL, 1, 4),
        Instruction("Bcc.W", 0xD000FB80, 0x8000F300, 4, Group.CONDITIONAL, Form.RELATIVE, _THUMB_CONDITIONAL, 1, 4),
        Instruction(
            "LDR literal",
            0xF800,
            0x4800,
            2,
            Group.LITERALS,
            Form.RELATIVE,
            _slices((0, 8, 0)),
            2,
            4,
            4,
            is_signed=False,
        ),
        Instruction("B.N", 0xF800, 0xE000, 2, Group.SHORT, Form.RELATIVE, _slices((0, 11, 0)), 1, 4),
    ),
    InstructionSet.ARM32: (
        # Conditions 0 to 14; 15 is BLX and others.
        Instruction("B, BL", 0x8E000000, 0x0A000000, 4, Group.CALLS, Form.RELATIVE, _slices((0, 24, 0)), 2, 8),
        Instruction("B, BL", 0xCE000000, 0x8A000000, 4, Group.CALLS, Form.RELATIVE, _slices((0, 24, 0)), 2, 8),
        Instruction("B, BL", 0xEE000000, 0xCA000000, 4, Group.CALLS, Form.RELATIVE, _slices((0, 24, 0)), 2, 8),
        Instruction("B, BL", 0xFE000000, 0xEA000000, 4, Group.CALLS, Form.RELATIVE, _slices((0, 24, 0)), 2, 8),
    ),
    InstructionSet.AARCH64: (
        Instruction("B, BL", 0x7C000000, 0x14000000, 4, Group.CALLS, Form.RELATIVE, _slices((0, 26, 0)), 2),
        Instruction("ADRP", 0x9F000000, 0x90000000, 4, Group.PAIRS, Form.PAGE, _slices((5, 19, 2), (29, 2, 0)), 12),
        Instruction("B.cond", 0xFF000010, 0x54000000, 4, Group.CONDITIONAL, Form.RELATIVE, _IMM19, 2),
        Instruction("CBZ, CBNZ", 0x7E000000, 0x34000000, 4, Group.CONDITIONAL, Form.RELATIVE, _IMM19, 2),
        Instruction("TBZ, TBNZ", 0x7E000000, 0x36000000, 4, Group.CONDITIONAL, Form.RELATIVE, _slices((5, 14, 0)), 2),
        Instruction("LDR literal", 0x3B000000, 0x18000000, 4, Group.LITERALS, Form.RELATIVE, _IMM19, 2),
    ),
    InstructionSet.RISCV: (
        Instruction("JAL", 0x0000007F, 0x0000006F, 4, Group.CALLS, Form.RELATIVE, _RISCV_JUMP, 1),
        Instruction("AUIPC", 0x0000007F, 0x00000017, 4, Group.PAIRS, Form.PAIR, _slices((12, 20, 0)), 12),
        Instruction("branch", 0x0000007F, 0x00000063, 4, Group.CONDITIONAL, Form.RELATIVE, _RISCV_BRANCH, 1),
        Instruction("C.J", 0xE003, 0xA001, 2, Group.SHORT, Form.RELATIVE, _RISCV_SHORT, 1),
    ),
    # x86: the mask covers the bytes before a 32-bit displacement; see `X86_PREFIXES`.
    InstructionSet.X86: (),
    InstructionSet.BTREE: (),
    InstructionSet.DISTANCES: (),
    InstructionSet.RECORDS: (),
}


@dataclass(frozen=True, slots=True)
class Prefix:
    """x86: `length_bytes` bytes that are followed by a 32-bit displacement, counted from the byte behind it."""

    name: str
    mask: int
    value: int
    length_bytes: int
    group: Group


X86_PREFIXES: Final = (
    Prefix("CALL, JMP", 0xFE, 0xE8, 1, Group.CALLS),
    Prefix("Jcc", 0xF0FF, 0x800F, 2, Group.CONDITIONAL),
    Prefix("LEA RIP", 0xC7FF, 0x058D, 2, Group.PAIRS),
    Prefix("MOV RIP", 0xC7FD, 0x0589, 2, Group.PAIRS),
    Prefix("CMP RIP", 0xC7FD, 0x0539, 2, Group.PAIRS),
    Prefix("CALL, JMP, PUSH RIP", 0xC7FF, 0x05FF, 2, Group.PAIRS),
)

STEP_BYTES: Final = {
    InstructionSet.NONE: 4,
    InstructionSet.THUMB2: 2,
    InstructionSet.ARM32: 4,
    InstructionSet.AARCH64: 4,
    InstructionSet.RISCV: 2,
    InstructionSet.X86: 1,
    InstructionSet.BTREE: 2,
    InstructionSet.DISTANCES: 4,
    InstructionSet.RECORDS: 1,
}
"""Alignment of instructions."""


def _slice_in_c(piece: Slice) -> str:
    return f"{{0x{((1 << piece.width) - 1) << piece.at:08X}u, {(piece.field - piece.at) % 32}}}"


def as_c_header() -> str:
    """Return the tables as ``instructions.h``."""
    lines = [
        "/* Made by `python -m packager.vehicle.instructions`; do not edit. See instructions.py for what the fields mean. */",
        "#ifndef OTA_INSTRUCTIONS_H",
        "#define OTA_INSTRUCTIONS_H",
        "",
        '#include "predict.h"',
        "",
    ]
    for instruction_set, rows in TABLES.items():
        if not rows:
            continue
        name = instruction_set.name.lower()
        lines.append(f"static const struct ota_instruction ota_{name}[] = {{")
        for row in rows:
            machine, label = row.slices, row.label_slices
            numbers = (row.width_bytes, row.group, row.form, row.scale, row.bias, row.align, row.is_signed, row.bits)
            fields = ", ".join(str(int(number)) for number in numbers)
            parts = [", ".join(map(_slice_in_c, part)) for part in (machine, label)]
            taken = sum(((1 << piece.width) - 1) << piece.at for piece in machine)
            counts = f"{len(machine)}, {len(label)}"
            lines.append(
                f"    {{0x{row.mask:08X}u, 0x{row.value:08X}u, 0x{taken:08X}u, {fields}, {counts},\n"
                f"     {{{parts[0]}}}, {{{parts[1]}}}}}, /* {row.name} */"
            )
        lines += ["};", ""]
    lines.append("static const struct ota_prefix ota_x86_prefixes[] = {")
    lines += [
        f"    {{0x{prefix.mask:04X}, 0x{prefix.value:04X}, {prefix.length_bytes}, {int(prefix.group)}}}, /* {prefix.name} */"
        for prefix in X86_PREFIXES
    ]
    return "\n".join([*lines, "};", "", "#endif", ""])


if __name__ == "__main__":
    import sys

    sys.stdout.write(as_c_header())
