"""Thumb-2 encodings (ARM DDI 0403, chapter A7) for generated Cortex-M firmware."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sample_images.instructions import PIECES, Piece, check_reach, freeze
from sample_images.streams import ChoiceStream

VECTORS: Final = 112
_RAM_BYTES: Final = 0x40000
_NOP16: Final = b"\x00\xbf"

# (opcode, bits that may take any value), most frequent first; the list is drawn from with a bias to its start.
_SHORT: Final = (
    (0x6800, 0x07FF),  # LDR Rt, [Rn, #imm5]
    (0x6000, 0x07FF),  # STR Rt, [Rn, #imm5]
    (0x2000, 0x07FF),  # MOVS Rd, #imm8
    (0x4600, 0x003F),  # MOV Rd, Rm
    (0x2800, 0x07FF),  # CMP Rn, #imm8
    (0x1800, 0x01FF),  # ADDS Rd, Rn, Rm
    (0x3000, 0x07FF),  # ADDS Rdn, #imm8
    (0x9800, 0x07FF),  # LDR Rt, [SP, #imm8]
    (0x9000, 0x07FF),  # STR Rt, [SP, #imm8]
    (0x7800, 0x07FF),  # LDRB
    (0x7000, 0x07FF),  # STRB
    (0x8800, 0x07FF),  # LDRH
    (0x8000, 0x07FF),  # STRH
    (0x0000, 0x07FF),  # LSLS Rd, Rm, #imm5
    (0x0800, 0x07FF),  # LSRS
    (0x1A00, 0x01FF),  # SUBS Rd, Rn, Rm
    (0x3800, 0x07FF),  # SUBS Rdn, #imm8
    (0x4280, 0x003F),  # CMP Rn, Rm
    (0x4000, 0x003F),  # ANDS
    (0x4300, 0x003F),  # ORRS
    (0x4040, 0x003F),  # EORS
    (0xB2C0, 0x003F),  # UXTB
)
_LONG: Final = (
    (0xF8D0, 0x0007, 0x0000, 0x7FFF),  # LDR.W Rt, [Rn, #imm12]
    (0xF8C0, 0x0007, 0x0000, 0x7FFF),  # STR.W
    (0xF240, 0x040F, 0x0000, 0x77FF),  # MOVW Rd, #imm16
    (0xEB00, 0x0007, 0x0000, 0x0707),  # ADD.W Rd, Rn, Rm
    (0xFB00, 0x0007, 0x0000, 0x7707),  # MLA
    (0xFB90, 0x0007, 0xF0F0, 0x0707),  # SDIV
)


def _halves(first: int, second: int) -> int:
    return first | second << 16


class Thumb2:
    """Thumb-2 on a Cortex-M with flash at 0x08000000."""

    name = "thumb2"
    base_address = 0x0800_0000
    ram_address = 0x2000_0000
    pointer_bytes = 4
    pointer_tag = 1
    prologue = bytes.fromhex("f0b5 83b0")  # PUSH {r4-r7, lr}; SUB sp, #12
    epilogue = bytes.fromhex("03b0 f0bd")  # ADD sp, #12; POP {r4-r7, pc}
    nop = bytes.fromhex("aff3 0080")  # NOP.W

    @property
    def pieces(self) -> Sequence[Piece]:
        """See `InstructionSet.pieces`."""
        return _pieces()

    def call(self, site: int, target: int) -> int:
        """Encode BL (encoding T1, reach 16 MiB)."""
        distance = target - site - 4
        check_reach(distance, 1 << 24, "BL")
        return _halves(0xF000 | self._high(distance), 0xD000 | self._low(distance))

    @staticmethod
    def _high(distance: int) -> int:
        return (distance >> 24 & 1) << 10 | distance >> 12 & 0x3FF

    @staticmethod
    def _low(distance: int) -> int:
        sign = distance >> 24 & 1
        j1 = (distance >> 23 & 1) ^ sign ^ 1
        j2 = (distance >> 22 & 1) ^ sign ^ 1
        return j1 << 13 | j2 << 11 | distance >> 1 & 0x7FF

    def branch(self, site: int, target: int, choice: int) -> int:
        """Encode B<cond>.W (encoding T3, reach 1 MiB)."""
        distance = target - site - 4
        check_reach(distance, 1 << 20, "B<cond>.W")
        first = 0xF000 | (distance >> 20 & 1) << 10 | choice % 14 << 6 | distance >> 12 & 0x3F
        second = 0x8000 | (distance >> 18 & 1) << 13 | (distance >> 19 & 1) << 11 | distance >> 1 & 0x7FF
        return _halves(first, second)

    def load_literal(self, site: int, literal: int, choice: int) -> int:
        """Encode LDR.W Rt, [PC, #imm12] (encoding T2)."""
        distance = literal - ((site + 4) & ~3)
        if not 0 <= distance < 4096:
            raise ValueError(f"LDR literal: distance {distance} bytes, expected 0 to 4095")
        return _halves(0xF8DF, (choice & 7) << 12 | distance)

    def load_address(self, site: int, target: int, choice: int) -> int:
        """Encode MOVW, MOVT (encodings T3 and T1)."""
        del site
        low, high = self._move(0xF240, target & 0xFFFF, choice), self._move(0xF2C0, target >> 16, choice)
        return low | high << 32

    @staticmethod
    def _move(opcode: int, value: int, choice: int) -> int:
        first = opcode | (value >> 11 & 1) << 10 | value >> 12
        return _halves(first, (value >> 8 & 7) << 12 | (choice & 7) << 8 | value & 0xFF)

    def vectors(self, handlers: Sequence[int]) -> bytes:
        """Encode initial stack pointer and exception vectors; most interrupts share the last handler."""
        used = [handlers[min(index, len(handlers) - 1)] | 1 for index in range(VECTORS - 1)]
        words = (self.ram_address + _RAM_BYTES, *used)
        return b"".join(word.to_bytes(4, "little") for word in words)


@lru_cache(maxsize=1)
def _pieces() -> tuple[Piece, ...]:
    choices = ChoiceStream("pieces", "thumb2")
    return tuple(_piece(choices) for _ in range(PIECES))


def _piece(choices: ChoiceStream) -> Piece:
    template = bytearray()
    mask = bytearray()
    wanted = 20 + choices.below(120)
    while len(template) < wanted:
        if choices.below(4) == 0:
            first, first_mask, second, second_mask = _LONG[min(choices.below(len(_LONG)), choices.below(len(_LONG)))]
            word, word_mask = freeze(choices, _halves(first, second), _halves(first_mask, second_mask), 32)
            template += word.to_bytes(4, "little")
            mask += word_mask.to_bytes(4, "little")
            continue
        if choices.below(9) == 0:  # B<cond> over the short instruction that follows
            template += (0xD000 | choices.below(14) << 8).to_bytes(2, "little")
            mask += bytes(2)
        form = _SHORT[min(choices.below(len(_SHORT)), choices.below(len(_SHORT)))]
        opcode, free = freeze(choices, *form, 16)
        template += opcode.to_bytes(2, "little")
        mask += free.to_bytes(2, "little")
    if len(template) % 4:
        template += _NOP16
        mask += bytes(2)
    return Piece(bytes(template), bytes(mask))


THUMB2: Final = Thumb2()
