"""Laws of the synthesiser: every address in the machine code leads where it should, and a re-link changes just the addresses.

The decoders here are written from the architecture manuals, apart from the encoders.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sample_images.linker import PlacedFunction
from sample_images.modules import KnownEdit
from sample_images.synthesiser import (
    INSTRUCTION_SETS,
    MIN_FLASH_BYTES,
    FirmwareSpec,
    symbols,
    synthesise_bytes,
    with_edit,
)

SPECS = st.builds(
    FirmwareSpec,
    isa=st.sampled_from(sorted(INSTRUCTION_SETS)),
    flash_bytes=st.integers(MIN_FLASH_BYTES, 96 << 10),
    seed=st.integers(0, 1 << 32),
    version=st.integers(0, 40),
    fill_percent=st.integers(15, 60),
    change_percent=st.integers(0, 100),
    known_edit=st.sampled_from(KnownEdit),
)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Instruction = tuple[str, int, int | None]
"""Kind, address, and the address that it leads to."""


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def decode_thumb2(code: bytes, address: int) -> Iterator[Instruction]:
    at = 0
    while at < len(code):
        (first,) = struct.unpack_from("<H", code, at)
        pc = address + at + 4
        if first >> 11 < 0b11101:
            target = pc + 2 * signed(first & 0xFF, 8) if first >> 12 == 0b1101 and (first >> 8 & 15) < 14 else None
            yield ("branch" if target else "other"), address + at, target
            at += 2
            continue
        (second,) = struct.unpack_from("<H", code, at + 2)
        if first >> 11 == 0b11110 and second & 0xD000 == 0xD000:
            sign = first >> 10 & 1
            i1, i2 = (sign ^ second >> 13 & 1) ^ 1, (sign ^ second >> 11 & 1) ^ 1
            offset = sign << 24 | i1 << 23 | i2 << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
            yield "call", address + at, pc + signed(offset, 25)
        elif first >> 11 == 0b11110 and second & 0xD000 == 0x8000 and (first >> 6 & 15) < 14:
            sign, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
            offset = sign << 20 | j2 << 19 | j1 << 18 | (first & 0x3F) << 12 | (second & 0x7FF) << 1
            yield "branch", address + at, pc + signed(offset, 21)
        elif first == 0xF8DF:
            yield "literal", address + at, (pc & ~3) + (second & 0xFFF)
        else:
            yield "other", address + at, None
        at += 4


def decode_aarch64(code: bytes, address: int) -> Iterator[Instruction]:
    for index, (word,) in enumerate(struct.iter_unpack("<I", code)):
        at = address + 4 * index
        if word >> 26 == 0b100101:
            yield "call", at, at + 4 * signed(word & 0x3FFFFFF, 26)
        elif word >> 24 == 0b01010100 or word >> 25 == 0b1011010:
            yield "branch", at, at + 4 * signed(word >> 5 & 0x7FFFF, 19)
        elif word >> 24 == 0b01011000:
            yield "literal", at, at + 4 * signed(word >> 5 & 0x7FFFF, 19)
        else:
            yield "other", at, None


DECODERS = {"thumb2": decode_thumb2, "aarch64": decode_aarch64}


def decode(spec: FirmwareSpec, image: bytes, function: PlacedFunction) -> list[Instruction]:
    base = INSTRUCTION_SETS[spec.isa].base_address
    code = image[function.address - base : function.address - base + function.code_bytes]
    return list(DECODERS[spec.isa](code, function.address))


@SLOW
@given(SPECS)
def test_the_image_has_the_length_of_the_flash_and_functions_follow_each_other(spec: FirmwareSpec) -> None:
    assert len(synthesise_bytes(spec)) == spec.flash_bytes
    functions = list(symbols(spec))
    assert len({function.name for function in functions}) == len(functions)
    for before, after in pairwise(functions):
        assert before.code_bytes <= before.length_bytes
        assert before.address + before.length_bytes <= after.address


@SLOW
@given(SPECS)
def test_every_call_leads_to_the_start_of_a_function(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    functions = list(symbols(spec))
    starts = {function.address for function in functions}
    for function in functions:
        for kind, at, target in decode(spec, image, function):
            if kind == "call":
                assert target in starts, hex(at)


@SLOW
@given(SPECS)
def test_every_branch_stays_on_an_instruction_of_its_function(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    for function in symbols(spec):
        instructions = decode(spec, image, function)
        places = {at for _, at, _ in instructions}
        for kind, at, target in instructions:
            if kind == "branch":
                assert target in places, hex(at)


@SLOW
@given(SPECS)
def test_every_literal_is_in_the_pool_of_its_function_and_points_into_flash_or_ram(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    isa = INSTRUCTION_SETS[spec.isa]
    functions = list(symbols(spec))
    starts = [function.address for function in functions]
    for function in functions:
        pool = function.address + function.code_bytes
        used = set()
        for kind, at, target in decode(spec, image, function):
            if kind != "literal":
                continue
            assert target is not None
            assert pool <= target <= function.address + function.length_bytes - isa.pointer_bytes, hex(at)
            used.add(target)
            offset = target - isa.base_address
            value = int.from_bytes(image[offset : offset + isa.pointer_bytes], "little")
            in_ram = isa.ram_address <= value < isa.ram_address + (1 << 16)
            in_flash = isa.base_address <= value < isa.base_address + spec.flash_bytes
            assert in_ram or in_flash
            near = functions[max(0, bisect_right(starts, value) - 1)]
            if near.address <= value < near.address + near.length_bytes:
                assert value == near.address + isa.pointer_tag, hex(at)
        assert len(used) * isa.pointer_bytes == function.length_bytes - function.code_bytes


@SLOW
@given(SPECS)
def test_the_vector_table_leads_to_functions(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    isa = INSTRUCTION_SETS[spec.isa]
    starts = {function.address for function in symbols(spec)}
    if spec.isa == "thumb2":
        handlers = {word - 1 for word in struct.unpack_from("<111I", image, 4)}
    else:
        words = (struct.unpack_from("<I", image, place)[0] for place in range(0, 0x800, 0x80))
        handlers = {isa.base_address + 0x80 * i + 4 * signed(w & 0x3FFFFFF, 26) for i, w in enumerate(words)}
    assert handlers <= starts


@SLOW
@given(SPECS)
def test_the_same_specification_gives_the_same_bytes_and_the_next_version_others(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    assert image == synthesise_bytes(spec)
    assert image != synthesise_bytes(replace(spec, version=spec.version + 1))


@pytest.mark.parametrize("isa", sorted(INSTRUCTION_SETS))
@settings(SLOW, max_examples=10)
@given(seed=st.integers(0, 1 << 32), version=st.integers(0, 20))
def test_one_inserted_instruction_moves_the_target_of_calls_but_not_whom_they_call(
    isa: str, seed: int, version: int
) -> None:
    spec = FirmwareSpec(isa, 64 << 10, seed, version)
    edited = with_edit(spec, KnownEdit.INSERT_INSTRUCTION)
    before, after = synthesise_bytes(spec), synthesise_bytes(edited)
    old, new = list(symbols(spec)), list(symbols(edited))
    names = {function.address: function.name for function in old}
    new_names = {function.address: function.name for function in new}
    moved = calls = 0
    for old_function, new_function in zip(old[1:], new[1:], strict=True):
        pairs = zip(decode(spec, before, old_function), decode(edited, after, new_function), strict=True)
        for (kind, old_at, old_target), (new_kind, new_at, new_target) in pairs:
            assert (kind, old_at + 4) == (new_kind, new_at)
            if kind == "call":
                assert old_target is not None
                assert new_target is not None
                assert names[old_target] == new_names[new_target]
                calls += 1
                moved += old_target != new_target
    assert calls > 20
    assert moved > calls * 0.8  # all but the calls of the very first function
