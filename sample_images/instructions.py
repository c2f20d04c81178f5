"""What the linker needs of an instruction set: code pieces with free fields, and the instructions that carry addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from sample_images.streams import ChoiceStream

PIECES_LOG2: Final = 9
PIECES: Final = 1 << PIECES_LOG2


class Slot(IntEnum):
    """The address-carrying instruction that follows a piece of code."""

    NONE = 0
    CALL = 1
    LITERAL = 2
    ADDRESS = 3
    BRANCH = 4


SLOT_BYTES: Final = (0, 4, 4, 8, 4)
"""Length of the instructions in each `Slot`, in every instruction set here."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Straight-line code. Any value of the bits in `mask` gives the same instructions on other registers and constants.

    Its length is a multiple of 4 bytes.
    """

    template: bytes
    mask: bytes


class InstructionSet(Protocol):
    """One instruction set. Encoders return the little-endian word(s) at `site`; addresses are absolute, in bytes."""

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str:
        """Short name, part of every random stream."""

    @property
    def base_address(self) -> int:
        """Where the flash lies in the address space."""

    @property
    def ram_address(self) -> int:
        """Where the RAM lies."""

    @property
    def pointer_bytes(self) -> int:
        """Width of a pointer and of a literal."""

    @property
    def pointer_tag(self) -> int:
        """What is added to a function's address in a pointer to it (1 for Thumb)."""

    @property
    def prologue(self) -> bytes:
        """First instructions of a function."""

    @property
    def epilogue(self) -> bytes:
        """Last instructions of a function."""

    @property
    def nop(self) -> bytes:
        """Four bytes that do nothing."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """`PIECES` pieces of code."""

    def call(self, site: int, target: int) -> int:
        """Encode a call (4 bytes)."""

    def branch(self, site: int, target: int, choice: int) -> int:
        """Encode a conditional branch (4 bytes)."""

    def load_literal(self, site: int, literal: int, choice: int) -> int:
        """Encode a load of the literal at address `literal` (4 bytes)."""

    def load_address(self, site: int, target: int, choice: int) -> int:
        """Encode the instruction pair that makes an address (8 bytes)."""

    def vectors(self, handlers: Sequence[int]) -> bytes:
        """Encode the vector table at the start of the flash."""


def freeze(choices: ChoiceStream, opcode: int, free: int, bits: int) -> tuple[int, int]:
    """Fix the free fields of every second instruction of a piece, as compilers repeat whole idioms.

    Returns:
        The opcode with its fields, and the fields that stay free.
    """
    if choices.below(2):
        return opcode, free
    values = (choices.below(1 << 16) | choices.below(1 << 16) << 16) & ((1 << bits) - 1)
    return opcode | values & free, 0


def check_reach(distance: int, limit: int, what: str) -> None:
    """Check that a PC-relative distance fits its instruction.

    Raises:
        ValueError: It does not; the layout of the generated firmware keeps this from happening.
    """
    if not -limit <= distance < limit:
        raise ValueError(f"{what}: distance {distance} bytes, expected within {limit}")
