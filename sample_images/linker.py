"""The miniature linker: gives modules their addresses one after the other and makes their bytes, in bounded memory.

Only three modules are held at a time: functions call within their module and its two neighbours, as the linker of a large
firmware also keeps callers near. So memory does not grow with the flash, while an insertion still moves all that follows.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sample_images.functions import link_function
from sample_images.instructions import InstructionSet
from sample_images.modules import ModulePlan

_EXPORTS: Final = 16


@dataclass(frozen=True, slots=True)
class PlacedFunction:
    """Where a function stands: its address, the length of its instructions, and with its literal pool."""

    name: str
    address: int
    code_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class PlacedModule:
    """A module with its address.

    Attributes:
        index: Its number.
        plan: What it consists of.
        address: Where it starts.
        starts: Address of each function, in flash order.
        callable_starts: Address of each original function by its number; one that was removed is replaced by the first.
    """

    index: int
    plan: ModulePlan
    address: int
    starts: tuple[int, ...]
    callable_starts: tuple[int, ...]

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.plan.length_bytes


def place_module(plan: ModulePlan, index: int, address: int) -> PlacedModule:
    """Give a module and its functions their addresses."""
    starts = []
    by_number = {}
    at = address
    for function in plan.functions:
        starts.append(at)
        by_number[function.number] = at
        at += function.length_bytes
    callable_starts = [by_number.get(number, starts[0]) for number in range(plan.original)]
    return PlacedModule(index, plan, address, tuple(starts), tuple(callable_starts))


def place_modules(plans: Iterable[ModulePlan], address: int) -> Iterator[PlacedModule]:
    """Give modules their addresses, one behind the other."""
    for index, plan in enumerate(plans):
        placed = place_module(plan, index, address)
        yield placed
        address = placed.end


class _ModuleResolver:
    """Chooses what the functions of one module refer to. The choice is by identity, so that it survives moves."""

    def __init__(
        self,
        isa: InstructionSet,
        previous: PlacedModule | None,
        module: PlacedModule,
        following: PlacedModule | None,
        calibration: Sequence[int],
    ) -> None:
        own = module.callable_starts
        before = previous.callable_starts[:_EXPORTS] if previous else own
        behind = following.callable_starts[:_EXPORTS] if following else own
        self._callees = (own, own, own, own, own, own, before, behind)
        self._own = own
        self._calibration = calibration
        self._rodata_address = module.address + module.plan.code_bytes
        self._strings = module.plan.rodata.string_offsets
        self._tables = self._rodata_address + len(module.plan.rodata.strings)
        self._table_bytes = len(module.plan.rodata.tables)
        self._ram = isa.ram_address
        self._tag = isa.pointer_tag

    def callee(self, argument: int) -> int:
        starts = self._callees[argument & 7]
        return starts[(argument >> 3) % len(starts)]

    def pointer(self, argument: int) -> int:
        kind, choice = argument & 15, argument >> 4
        if kind < 4:
            return self._own[choice % len(self._own)] + self._tag
        if kind < 7:
            return self._rodata_address + self._strings[choice % len(self._strings)]
        if kind < 9:
            return self._calibration[choice % len(self._calibration)]
        return self._ram + (choice & 0x3FFC)

    def data(self, argument: int) -> int:
        return self._tables + argument * 4 % self._table_bytes


def _link_module(isa: InstructionSet, module: PlacedModule, resolver: _ModuleResolver) -> bytes:
    parts = [
        link_function(isa, function, address, resolver)
        for function, address in zip(module.plan.functions, module.starts, strict=True)
    ]
    rodata = module.plan.rodata
    strings_address = module.address + module.plan.code_bytes
    pointers = [
        strings_address + rodata.string_offsets[choice % len(rodata.string_offsets)]
        if choice & 1
        else module.starts[choice % len(module.starts)] + isa.pointer_tag
        for choice in rodata.pointer_choices
    ]
    table = struct.pack(f"<{len(pointers)}{'Q' if isa.pointer_bytes == 8 else 'I'}", *pointers)
    return b"".join([*parts, rodata.strings, rodata.tables, table])


def link_modules(isa: InstructionSet, modules: Iterable[PlacedModule], calibration: Sequence[int]) -> Iterator[bytes]:
    """Yield the bytes of modules in flash order, reading one module ahead.

    Args:
        isa: Instruction set.
        modules: With their addresses, in order.
        calibration: Addresses of the calibration maps, by identity.
    """
    previous: PlacedModule | None = None
    current: PlacedModule | None = None
    for following in modules:
        if current is not None:
            yield _link_module(isa, current, _ModuleResolver(isa, previous, current, following, calibration))
        previous, current = current, following
    if current is not None:
        yield _link_module(isa, current, _ModuleResolver(isa, previous, current, None, calibration))


def placed_functions(isa: InstructionSet, module: PlacedModule) -> Iterator[PlacedFunction]:
    """Yield the symbols of a module."""
    for function, address in zip(module.plan.functions, module.starts, strict=True):
        code = len(isa.prologue) + len(function.head) + function.body_bytes + len(isa.epilogue)
        yield PlacedFunction(f"m{module.index}_f{function.number}", address, code, function.length_bytes)
