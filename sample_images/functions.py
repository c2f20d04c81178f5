"""Functions of generated firmware: planned and edited without addresses, then linked to machine code at one address."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, Protocol

from sample_images.instructions import PIECES, PIECES_LOG2, SLOT_BYTES, InstructionSet, Slot
from sample_images.streams import digest

# Which slot follows a piece: 5/16 call, 4/16 literal, 3/16 branch, 1/16 address, 3/16 nothing.
_KINDS: Final = (Slot.CALL,) * 5 + (Slot.LITERAL,) * 4 + (Slot.BRANCH,) * 3 + (Slot.ADDRESS,) + (Slot.NONE,) * 3
_ARGUMENT_SHIFT: Final = 4 + PIECES_LOG2
_WORD: Final = struct.Struct("<I")
_PAIR: Final = struct.Struct("<Q")
CALL, LITERAL, ADDRESS = Slot.CALL, Slot.LITERAL, Slot.ADDRESS

Element = tuple[int, int]
"""A piece with its slot (slot kind * PIECES + piece) and the slot's argument, which chooses target, condition and register."""


class Resolver(Protocol):
    """Tells the addresses that a function refers to; `argument` chooses among what there is."""

    def callee(self, argument: int) -> int:
        """Return the address of a function."""

    def pointer(self, argument: int) -> int:
        """Return the value of a literal: a function, string, calibration map, or a variable in RAM."""

    def data(self, argument: int) -> int:
        """Return the address of constant data."""


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """Pieces joined with every kind of slot, by `Element` number."""

    templates: tuple[bytes, ...]
    masks: tuple[bytes, ...]
    lengths: tuple[int, ...]


@lru_cache(maxsize=4)
def _catalogue(isa: InstructionSet) -> _Catalogue:
    blank = [bytes(SLOT_BYTES[slot]) for slot in Slot]
    templates = tuple(piece.template + gap for gap in blank for piece in isa.pieces)
    masks = tuple(piece.mask + gap for gap in blank for piece in isa.pieces)
    return _Catalogue(templates, masks, tuple(map(len, templates)))


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """A function before it has an address.

    Attributes:
        number: Identity within its module; stays through edits and moves.
        elements: Its code between prologue and epilogue.
        fields: Values for the free fields of each element; of all of them in one piece until the function is edited.
        head: Instructions put in front of the body by a known edit.
        body_bytes: Length of the elements.
        length_bytes: Length with prologue, epilogue and literal pool.
    """

    number: int
    elements: tuple[Element, ...]
    fields: tuple[bytes, ...]
    head: bytes
    body_bytes: int
    length_bytes: int


def _field_values(length_bytes: int, *parts: str | int) -> bytes:
    """Return random field values with few bits set, as low registers and small constants are the most frequent ones."""
    values = digest(2 * length_bytes, *parts)
    both = int.from_bytes(values[:length_bytes], "little") & int.from_bytes(values[length_bytes:], "little")
    return both.to_bytes(length_bytes, "little")


def _plan(
    isa: InstructionSet, number: int, elements: tuple[Element, ...], fields: tuple[bytes, ...], head: bytes = b""
) -> FunctionPlan:
    lengths = _catalogue(isa).lengths
    body = sum([lengths[element] for element, _ in elements])
    literals = sum([element >> PIECES_LOG2 == LITERAL for element, _ in elements])
    fixed = len(isa.prologue) + len(head) + len(isa.epilogue)
    return FunctionPlan(number, elements, fields, head, body, fixed + body + literals * isa.pointer_bytes)


def _elements(words: bytes) -> tuple[Element, ...]:
    return tuple(
        [
            (_KINDS[word & 15] << PIECES_LOG2 | word >> 4 & PIECES - 1, word >> _ARGUMENT_SHIFT)
            for (word,) in _WORD.iter_unpack(words)
        ]
    )


def plan_function(isa: InstructionSet, key: str, number: int, most_pieces: int) -> FunctionPlan:
    """Plan a new function.

    Args:
        isa: Its instruction set.
        key: Names the module's random stream.
        number: Identity within the module.
        most_pieces: It gets 2 to this many pieces.
    """
    words = digest(4 * (most_pieces + 1), key, "function", number)
    count = 2 + words[0] % (most_pieces - 1)
    elements = _elements(words[4 : 4 + 4 * count])
    lengths = _catalogue(isa).lengths
    body = sum([lengths[element] for element, _ in elements])
    return _plan(isa, number, elements, (_field_values(body, key, "fields", number),))


def edit_function(isa: InstructionSet, plan: FunctionPlan, key: str, edit: int, *, may_grow: bool) -> FunctionPlan:
    """Change a function a little, as a bug fix does: insert or remove a piece, change constants and registers, or call another one.

    Args:
        isa: Its instruction set.
        plan: The function before.
        key: Names the module's random stream.
        edit: Number of the edit within the function.
        may_grow: Whether a piece may be inserted; otherwise one is removed instead.
    """
    words = digest(12, key, "edit", plan.number, edit)
    lengths = _catalogue(isa).lengths
    elements, fields = list(plan.elements), _split(plan, lengths)
    index = words[1] % len(elements)
    match words[0] % 4:
        case 0 if may_grow:
            (added,) = _elements(words[4:8])
            elements.insert(index, added)
            fields.insert(index, _field_values(lengths[added[0]], key, "inserted", plan.number, edit))
        case 0 if len(elements) > 2:
            del elements[index]
            del fields[index]
        case 1:
            fields[index] = _field_values(len(fields[index]), key, "changed", plan.number, edit)
        case _:
            element, argument = elements[index]
            elements[index] = (element, argument ^ (1 + words[2]))
    return _plan(isa, plan.number, tuple(elements), tuple(fields))


def put_in_front(isa: InstructionSet, plan: FunctionPlan, instructions: bytes) -> FunctionPlan:
    """Insert instructions right behind the prologue."""
    return _plan(isa, plan.number, plan.elements, plan.fields, instructions)


def _split(plan: FunctionPlan, lengths: Sequence[int]) -> list[bytes]:
    """Give each element its own field values."""
    if len(plan.fields) == len(plan.elements):
        return list(plan.fields)
    ends = list(accumulate(lengths[element] for element, _ in plan.elements))
    return [plan.fields[0][start:end] for start, end in zip([0, *ends], ends, strict=False)]


def link_function(isa: InstructionSet, plan: FunctionPlan, address: int, resolver: Resolver) -> bytes:
    """Make the machine code of a function at `address`, with its literal pool behind it.

    This is the inner loop of the synthesiser: the free fields of all pieces are filled at once, as one long integer.
    """
    catalogue = _catalogue(isa)
    templates, masks, lengths = catalogue.templates, catalogue.masks, catalogue.lengths
    elements = plan.elements
    template = int.from_bytes(b"".join([templates[element] for element, _ in elements]), "little")
    mask = int.from_bytes(b"".join([masks[element] for element, _ in elements]), "little")
    fields = int.from_bytes(b"".join(plan.fields), "little")
    start = len(isa.prologue) + len(plan.head)
    code = bytearray(isa.prologue + plan.head)
    code += (template | mask & fields).to_bytes(plan.body_bytes, "little") + isa.epilogue
    pool = len(code)
    pointers: list[int] = []
    pack = _WORD.pack_into
    offset = start
    starts = [start]
    for element, argument in elements:
        offset += lengths[element]
        starts.append(offset)
        kind = element >> PIECES_LOG2
        if kind == CALL:
            pack(code, offset - 4, isa.call(address + offset - 4, resolver.callee(argument)))
        elif kind == LITERAL:
            literal = address + pool + len(pointers) * isa.pointer_bytes
            pointers.append(resolver.pointer(argument))
            pack(code, offset - 4, isa.load_literal(address + offset - 4, literal, argument))
        elif kind == ADDRESS:
            _PAIR.pack_into(code, offset - 8, isa.load_address(address + offset - 8, resolver.data(argument), argument))
    offset = start
    for index, (element, argument) in enumerate(elements):
        if element >> PIECES_LOG2 == Slot.BRANCH:
            target = starts[(index + 2 + argument % 7) % len(starts)]
            pack(
                code,
                starts[index + 1] - 4,
                isa.branch(address + starts[index + 1] - 4, address + target, argument >> 3),
            )
    return bytes(code) + struct.pack(f"<{len(pointers)}{'Q' if isa.pointer_bytes == 8 else 'I'}", *pointers)
