"""Strategies for the prediction kernel: contexts, and bytes made of the patterns that it looks for."""

import random
from array import array

from hypothesis import strategies as st

from packager.vehicle._pure_stretch import Context
from packager.vehicle.instructions import ALL_GROUPS, TABLES, X86_PREFIXES, InstructionSet

PAGE = 4096
U64 = (1 << 64) - 1
EDGES = (0, 1, PAGE, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40, 1 << 63, U64)
COMPLETIONS = {
    InstructionSet.AARCH64: (
        (0xFFC00000, 0x91000000),
        (0xFFC00000, 0xF9400000),
        (0xFFC00000, 0x39000000),
        (0xFFC00000, 0x3DC00000),
        (0xFFC00000, 0xB9800000),
        (0xFE000000, 0xD6000000),
    ),
    InstructionSet.RISCV: ((0x707F, 0x13), (0x707F, 0x2003), (0x707F, 0x2023), (0x7F, 0x67), (0x7F, 0x27)),
}
"""Instructions that complete a page or pair, or end the search for it: mask and value."""


def code(seed: int, instruction_set: InstructionSet, count: int) -> bytes:
    """Return bytes that mostly match the rows of an instruction set; registers are few, so that pairs are found."""
    chance = random.Random(seed)
    made = bytearray()
    if instruction_set in (InstructionSet.DISTANCES, InstructionSet.RECORDS):
        return table(chance, instruction_set, count)
    if instruction_set is InstructionSet.BTREE:
        while len(made) < count:
            made += btree_page(chance)
        return bytes(made[:count])
    while len(made) < count:
        noise = chance.getrandbits(32)
        patterns = [(row.mask, row.value, row.width_bytes) for row in TABLES[instruction_set]]
        patterns += [(mask, value, 4) for mask, value in COMPLETIONS.get(instruction_set, ())]
        if instruction_set is InstructionSet.X86 and chance.random() < 0.8:
            prefix = chance.choice(X86_PREFIXES)
            start = prefix.value | noise & ~prefix.mask
            made += (start & 0xFFFF).to_bytes(2, "little")[: prefix.length_bytes]
            made += (chance.randint(-9000, 9000) if chance.random() < 0.8 else noise).to_bytes(
                8, "little", signed=True
            )[:4]
        elif patterns and chance.random() < 0.8:
            mask, value, width = chance.choice(patterns)
            word = value | noise & ~mask
            if instruction_set is InstructionSet.AARCH64 and chance.random() < 0.8:
                word = word & ~0x3E0 & ~0x1E | (value & 0x3FF)
            if instruction_set is InstructionSet.RISCV and width == 4 and chance.random() < 0.8:
                word = word & ~0xF8F80 | 0x28280  # x5 both ways
            made += (word & U64).to_bytes(8, "little")[:width]
        elif chance.random() < 0.5:
            made += chance.randint(0, 40_000).to_bytes(chance.choice((4, 8)), "little")
        else:
            made += noise.to_bytes(4, "little")[: chance.choice((1, 2, 4))]
    return bytes(made[:count])


def table(chance: random.Random, instruction_set: InstructionSet, count: int) -> bytes:
    """Return records of 12 bytes: two distances to somewhere near and a flag, or numbers that grow; now and then one has noise in it."""
    made, grown = bytearray(), chance.getrandbits(20)
    while len(made) < count:
        grown += chance.randint(0, 300)
        words = [grown, grown // 7, chance.getrandbits(4)]
        if instruction_set is InstructionSet.DISTANCES:
            words = [chance.randint(-9000, 9000), chance.randint(-9000, 9000), chance.getrandbits(12)]
        if chance.random() < 0.1:
            words[chance.randrange(3)] = chance.getrandbits(32)
        made += b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in words)
    return bytes(made[:count])


def btree_page(chance: random.Random) -> bytes:
    """Return a page of a database whose cells stand one behind the other, at its end; now and then one that only looks like it."""
    page = bytearray(chance.randbytes(PAGE))
    page[0] = chance.choice((2, 5, 10, 13, 13, 13, 0))
    start, places, place = 12 if page[0] in (2, 5) else 8, [], PAGE
    while place > 600:
        place -= chance.randint(8, 120)
        places.append(place)
    count = len(places) if chance.random() < 0.9 else chance.choice((0, 2042, 2044, 2045, 65535))
    page[3:5] = count.to_bytes(2, "big")
    for number, here in enumerate(places):
        page[start + 2 * number : start + 2 * number + 2] = here.to_bytes(2, "big")
    return bytes(page)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    modes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(InstructionSet),
                st.one_of(st.just(int(ALL_GROUPS)), st.integers(0, ALL_GROUPS)),
                st.sampled_from((0, 1, 9, 12, 255, 256, 1 << 12, 0x08000000, (1 << 63) - 1)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    pages = draw(st.lists(st.integers(0, len(modes) - 1), max_size=4))
    sizes = st.one_of(st.integers(0, 5 * PAGE), st.sampled_from(EDGES))
    starts = sorted(draw(st.sets(st.one_of(st.integers(0, 5 * PAGE), st.sampled_from(EDGES)), max_size=6)))
    shift = st.one_of(st.integers(-300, 300), st.integers(-(1 << 63), (1 << 63) - 1))
    values = sorted(draw(st.sets(st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1)), max_size=6)))
    return Context(
        bytes(mode[0] for mode in modes),
        bytes(mode[1] for mode in modes),
        array("Q", (mode[2] for mode in modes)),
        bytes(pages),
        array("Q", starts),
        array("q", (draw(shift) for _ in starts)),
        draw(sizes),
        draw(sizes),
        array("I", values),
        array("I", (draw(st.integers(0, (1 << 32) - 1)) for _ in values)),
    )


@st.composite
def stretches(draw: st.DrawFn, *, most: int = 90) -> tuple[int, bytes]:
    """Return an address, often just before a page border, and bytes: noise or patterns, often of several sets."""
    address = draw(
        st.one_of(
            st.integers(0, 4).flatmap(lambda page: st.integers(max(page * PAGE - 40, 0), page * PAGE + 8)),
            st.integers(0, 4 * PAGE),
            st.integers(U64 - 100, U64),
            st.sampled_from(EDGES),
        )
    )
    parts = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.builds(code, st.integers(0, 1 << 30), st.sampled_from(InstructionSet), st.integers(0, most)),
            ),
            min_size=1,
            max_size=3,
        )
    )
    return address, b"".join(parts)
