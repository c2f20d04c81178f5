"""AArch64 encodings (ARM DDI 0487, chapter C4) for generated firmware of domain controllers."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sample_images.instructions import PIECES, Piece, check_reach, freeze
from sample_images.streams import ChoiceStream

_REGISTERS: Final = 0x3FF  # Rn and Rd
_RM: Final = 0x1F << 16
_NOP: Final = 0xD503201F
VECTOR_BYTES: Final = 0x80
VECTORS: Final = 16

# (opcode, bits that may take any value), most frequent first.
_FORMS: Final = (
    (0xF9400000, 0x3F << 10 | _REGISTERS),  # LDR Xt, [Xn, #imm]
    (0xAA0003E0, _RM | 0x1F),  # MOV Xd, Xm
    (0xF9000000, 0x3F << 10 | _REGISTERS),  # STR Xt, [Xn, #imm]
    (0x91000000, 0xFF << 10 | _REGISTERS),  # ADD Xd, Xn, #imm
    (0x52800000, 0xFF << 5 | 0x1F),  # MOVZ Wd, #imm
    (0xF100001F, 0xFF << 10 | 0x1F << 5),  # CMP Xn, #imm
    (0xA94007E0, 0x1F << 15 | 0x1E << 10 | 0x1E),  # LDP Xt, Xt2, [SP, #imm]; even and odd, as Xt must not be Xt2
    (0xA90007E0, 0x1F << 15 | 0x1E << 10 | 0x1E),  # STP
    (0x8B000000, _RM | _REGISTERS),  # ADD Xd, Xn, Xm
    (0xB9400000, 0x3F << 10 | _REGISTERS),  # LDR Wt
    (0xB9000000, 0x3F << 10 | _REGISTERS),  # STR Wt
    (0x39400000, 0x3F << 10 | _REGISTERS),  # LDRB
    (0x39000000, 0x3F << 10 | _REGISTERS),  # STRB
    (0xD1000000, 0xFF << 10 | _REGISTERS),  # SUB Xd, Xn, #imm
    (0xCB000000, _RM | _REGISTERS),  # SUB Xd, Xn, Xm
    (0xEB00001F, _RM | 0x1F << 5),  # CMP Xn, Xm
    (0x8A000000, _RM | _REGISTERS),  # AND
    (0xAA000000, _RM | _REGISTERS),  # ORR
    (0xCA000000, _RM | _REGISTERS),  # EOR
    (0x9A800000, _RM | 0xF << 12 | _REGISTERS),  # CSEL
    (0x9B000000, _RM | 0x1F << 10 | _REGISTERS),  # MADD
    (0xD3400000, 0x3F << 16 | 0x3F << 10 | _REGISTERS),  # UBFM
)


class AArch64:
    """AArch64 with flash at 0x80000000."""

    name = "aarch64"
    base_address = 0x8000_0000
    ram_address = 0x4000_0000
    pointer_bytes = 8
    pointer_tag = 0
    prologue = struct.pack("<2I", 0xA9BD7BFD, 0x910003FD)  # STP x29, x30, [sp, #-48]!; MOV x29, sp
    epilogue = struct.pack("<2I", 0xA8C37BFD, 0xD65F03C0)  # LDP x29, x30, [sp], #48; RET
    nop = _NOP.to_bytes(4, "little")

    @property
    def pieces(self) -> Sequence[Piece]:
        """See `InstructionSet.pieces`."""
        return _pieces()

    def call(self, site: int, target: int) -> int:
        """Encode BL (reach 128 MiB)."""
        distance = target - site
        check_reach(distance, 1 << 27, "BL")
        return 0x94000000 | distance >> 2 & 0x3FFFFFF

    def branch(self, site: int, target: int, choice: int) -> int:
        """Encode B.cond or CBZ/CBNZ (reach 1 MiB)."""
        distance = target - site
        check_reach(distance, 1 << 20, "B.cond")
        offset = (distance >> 2 & 0x7FFFF) << 5
        if choice & 1:
            return 0x54000000 | offset | (choice >> 1) % 14
        return 0xB4000000 | (choice >> 1 & 1) << 24 | offset | choice >> 2 & 0x1F

    def load_literal(self, site: int, literal: int, choice: int) -> int:
        """Encode LDR Xt, label (reach 1 MiB)."""
        distance = literal - site
        check_reach(distance, 1 << 20, "LDR literal")
        return 0x58000000 | (distance >> 2 & 0x7FFFF) << 5 | choice & 0x1F

    def load_address(self, site: int, target: int, choice: int) -> int:
        """Encode ADRP, ADD."""
        register = choice & 0xF
        pages = (target >> 12) - (site >> 12)
        page = 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register
        return page | (0x91000000 | (target & 0xFFF) << 10 | register << 5 | register) << 32

    def vectors(self, handlers: Sequence[int]) -> bytes:
        """Encode the exception vectors: 16 times a branch to a handler and 31 NOPs."""
        table = bytearray()
        for index in range(VECTORS):
            site = self.base_address + len(table)
            jump = 0x14000000 | (handlers[min(index, len(handlers) - 1)] - site) >> 2 & 0x3FFFFFF
            table += jump.to_bytes(4, "little") + self.nop * (VECTOR_BYTES // 4 - 1)
        return bytes(table)


@lru_cache(maxsize=1)
def _pieces() -> tuple[Piece, ...]:
    choices = ChoiceStream("pieces", "aarch64")
    return tuple(_piece(choices) for _ in range(PIECES))


def _piece(choices: ChoiceStream) -> Piece:
    template: list[int] = []
    mask: list[int] = []
    for _ in range(5 + choices.below(30)):
        if choices.below(10) == 0:  # B.cond over one instruction
            template.append(0x54000000 | 2 << 5 | choices.below(14))
            mask.append(0)
        form = _FORMS[min(choices.below(len(_FORMS)), choices.below(len(_FORMS)))]
        opcode, free = freeze(choices, *form, 32)
        template.append(opcode)
        mask.append(free)
    return Piece(struct.pack(f"<{len(template)}I", *template), struct.pack(f"<{len(mask)}I", *mask))


AARCH64: Final = AArch64()
