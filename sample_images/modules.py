"""One module of generated firmware (functions and their constant data) as it stands in one version."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from sample_images.functions import FunctionPlan, edit_function, plan_function, put_in_front
from sample_images.instructions import InstructionSet
from sample_images.rodata import Rodata, plan_rodata
from sample_images.streams import digest

_SMALL_MODULE_BYTES: Final = 16 << 10
_TOUCHED_OF_256: Final = 85  # each version touches about one module in three


class KnownEdit(Enum):
    """One exactly known change on top of a version, for tests and measurements."""

    NONE = "none"
    INSERT_INSTRUCTION = "insert-instruction"
    """One 4-byte instruction in the first function: everything behind it moves."""
    INSERT_FUNCTION = "insert-function"
    """A new first function."""
    REMOVE_FUNCTION = "remove-function"
    """The first function is gone; its callers call the next one."""
    CHANGE_CALIBRATION = "change-calibration"
    """Some values of the first calibration map; no address changes."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How modules are made and how they change.

    Attributes:
        isa: Instruction set.
        key: Names the random stream of the firmware.
        modules: How many modules there are.
        code_bytes: Planned length of the code of one module in version 0.
        version: How many times it was changed.
        change_percent: Share of the functions of a touched module that a version edits; at least one.
        known_edit: A change on top.
    """

    isa: InstructionSet
    key: str
    modules: int
    code_bytes: int
    version: int
    change_percent: int
    known_edit: KnownEdit


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """A module before it has an address.

    Attributes:
        functions: In the order in which they stand in the flash.
        original: How many functions it had in version 0, with numbers 0 to `original` - 1.
        rodata: Constant data, behind the functions.
        code_bytes: Length of the functions.
        length_bytes: Length of all of it.
    """

    functions: tuple[FunctionPlan, ...]
    original: int
    rodata: Rodata
    code_bytes: int
    length_bytes: int


def plan_module(growth: Growth, index: int) -> ModulePlan:
    """Plan module number `index`: make version 0, then apply what every later version changed."""
    isa, key = growth.isa, f"{growth.key}/{index}"
    most_pieces = 5 if growth.code_bytes < _SMALL_MODULE_BYTES else 17
    functions: list[FunctionPlan] = []
    length = 0
    while True:
        plan = plan_function(isa, key, len(functions), most_pieces)
        if len(functions) >= 2 and length + plan.length_bytes > growth.code_bytes:
            break
        functions.append(plan)
        length += plan.length_bytes
    count = len(functions)
    data_edits = []
    for step in range(1, growth.version + 1):
        draw = digest(4, key, "version", step)
        if draw[0] >= _TOUCHED_OF_256 and step % growth.modules != index:
            continue
        data_edits.append(step)
        place = int.from_bytes(draw[2:], "little") % len(functions)
        if draw[1] & 1 and length < growth.code_bytes:
            functions.insert(place, plan_function(isa, key, count + step, min(most_pieces, 8)))
            length += functions[place].length_bytes
        elif draw[1] & 1 and len(functions) > 2:
            length -= functions.pop(place).length_bytes
        length = _edit_some(growth, key, functions, length, step)
    if index == 0:
        _apply_known_edit(growth, key, functions)
    rodata = plan_rodata(key, growth.code_bytes, tuple(data_edits))
    code = sum([plan.length_bytes for plan in functions])
    return ModulePlan(tuple(functions), count, rodata, code, code + rodata.length_bytes(isa.pointer_bytes))


def _edit_some(growth: Growth, key: str, functions: list[FunctionPlan], length: int, step: int) -> int:
    """Edit some functions; return the length of all. It stays about what was planned, so that no version outgrows the flash."""
    edits = max(1, len(functions) * growth.change_percent // 100)
    draws = digest(2 * edits, key, "edited", step)
    for number in range(edits):
        place = int.from_bytes(draws[2 * number : 2 * number + 2], "little") % len(functions)
        before = functions[place]
        may_grow = length < growth.code_bytes
        functions[place] = edit_function(growth.isa, before, key, step * 1000 + number, may_grow=may_grow)
        length += functions[place].length_bytes - before.length_bytes
    return length


def _apply_known_edit(growth: Growth, key: str, functions: list[FunctionPlan]) -> None:
    match growth.known_edit:
        case KnownEdit.INSERT_INSTRUCTION:
            functions[0] = put_in_front(growth.isa, functions[0], growth.isa.nop)
        case KnownEdit.INSERT_FUNCTION:
            functions.insert(0, plan_function(growth.isa, f"{key}/known", 1 << 20, 4))
        case KnownEdit.REMOVE_FUNCTION:
            del functions[0]
        case _:
            pass
