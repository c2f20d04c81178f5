"""Adaptive residuals of predicted blocks in pure Python: the executable form of FORMAT.md section 14, and the twin of adaptive.c.

Every covered unit of two bytes has a bit that says whether it changes, and 16 that say by how much. Each bit is coded with a probability
that is mixed from those of several contexts: what the prediction is there, and what changed before. All of it is learnt on the way.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from packager.vehicle._pure import covered_units
from packager.vehicle.errors import CorruptError

UNIT: Final = 2
CHUNK: Final = 32
"""Units that have one bit together first: whether any of them changes."""
MOST_SEEN: Final = 60
RATE: Final = 80
FIRST_WEIGHT: Final = 24576
MOST_WEIGHT: Final = 1 << 20
FLAG_SETS: Final = 1
BYTE_SETS: Final = 15
SETS: Final = 39
INPUTS: Final = 7
LEAST_LOG2: Final = 12
MOST_LOG2: Final = 16
_M16: Final = (1 << 16) - 1
_M32: Final = (1 << 32) - 1
_STEPS: Final = (
    *(1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047),
    *(2549, 2994, 3348, 3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094),
)


def slots_log2(block_bytes: int) -> int:
    """Return log2 of the number of slots for blocks of this length."""
    return min(max((block_bytes - 1).bit_length() - 2, LEAST_LOG2), MOST_LOG2)


def _squash(number: int) -> int:
    """Return 4096 / (1 + e to the power of -number/256), between 1 and 4095."""
    if not -2048 < number < 2048:
        return 4095 if number > 0 else 1
    step, part = divmod(number + 2048, 128)
    return (_STEPS[step] * (128 - part) + _STEPS[step + 1] * part + 64) >> 7


def _stretch() -> "array[int]":
    """Return for each 12-bit probability the least number that squashes to it or to more."""
    table = array("h")
    for number in range(-2047, 2048):
        while len(table) <= _squash(number):
            table.append(number)
    table.extend([2047] * (4096 - len(table)))
    return table


_STRETCHED: Final = _stretch()


def _hash(first: int, second: int) -> int:
    mixed = (first * 0x9E3779B1 ^ second * 0x85EBCA6B) & _M32
    mixed = (mixed ^ mixed >> 15) * 0x2C1B3C6D & _M32
    return mixed ^ mixed >> 13


class _Model:
    """Reads bits from a stream, or writes them, and learns from them."""

    def __init__(self, block_bytes: int, stream: bytes | memoryview | None) -> None:
        self.chances: dict[int, tuple[int, int, int]] = {}  # slot: check, chance, seen
        self.mask = (1 << slots_log2(block_bytes)) - 1
        self.weights = [[FIRST_WEIGHT] * INPUTS for _ in range(SETS)]
        self.low, self.high = 0, _M32
        self.stream, self.at, self.code = stream, 4, 0
        self.written = bytearray()
        if stream is not None:
            self.code = int.from_bytes(bytes(stream[:4]).ljust(4, b"\0"), "big")

    def mix(self, contexts: Sequence[int], node: int, number: int, bit: int) -> int:
        """Read or write one bit in some contexts; `node` tells the bits of one byte apart, `number` is that of the set of weights."""
        weights = self.weights[number]
        found = []
        total = 0
        for context, weight in zip(contexts, weights, strict=False):
            place = (context ^ node * 0x3D4D51CB & _M32) * 0x9E3779B1 & _M32
            place ^= place >> 15
            check, chance, seen = self.chances.get(place & self.mask, (0, 1 << 15, 0))
            if check != place >> 24:
                check, chance, seen = place >> 24, 1 << 15, 0
            stretched = _STRETCHED[chance >> 4] if seen else 0
            total += weight * stretched
            found.append((place & self.mask, check, chance, seen, stretched))
        one = _squash(total >> 16)
        bit = self._code(one, bit)
        error = ((bit << 12) - one) * RATE
        for index, (slot, check, chance, seen, stretched) in enumerate(found):
            weight = weights[index] + (stretched * error + 0x8000 >> 16)
            weights[index] = min(max(weight, -MOST_WEIGHT), MOST_WEIGHT)
            moved = chance + ((bit * _M16 - chance) * (655360 // (10 * seen + 13)) >> 16)
            self.chances[slot] = (check, moved, min(seen + 1, MOST_SEEN))
        return bit

    def _code(self, one: int, bit: int) -> int:
        middle = self.low + (self.high - self.low >> 12) * one
        if self.stream is not None:
            bit = int(self.code <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            if self.stream is None:
                self.written.append(self.high >> 24)
            else:
                following = self.stream[self.at] if self.at < len(self.stream) else 0
                self.code = (self.code << 8 & _M32) | following
                self.at += 1
            self.low = self.low << 8 & _M32
            self.high = (self.high << 8 & _M32) | 0xFF
        return bit

    def end(self) -> bytes:
        """Return what was written, in the fewest bytes: a reader takes zeros for what is missing."""
        end = self.low
        for drop in (24, 16, 8):
            rounded = -(-self.low >> drop) << drop
            if rounded <= self.high:
                end = rounded
                break
        return bytes(self.written + end.to_bytes(4, "big")).rstrip(b"\0")


class _Units:
    """The units of one block, from the first to the last."""

    def __init__(self, model: _Model, out: bytearray | memoryview, wanted: bytes | memoryview | None) -> None:
        self.model, self.out, self.wanted = model, out, wanted
        self.chunks = self.flags = self.last = self.before_last = self.since = 0

    def run(self, units: Iterator[int]) -> None:
        """Read or write all units."""
        while places := [number * UNIT for number in islice(units, CHUNK)]:
            changes = int(self.wanted is not None and any(map(self._difference, places)))
            contexts = (_hash(self.chunks & 7, 1), _hash(self.chunks & 0xFF, 2), _hash(0, 3))
            changes = self.model.mix(contexts, 1, 0, changes)
            self.chunks = (self.chunks << 1 | changes) & 0xFF
            if not changes:
                self.flags = 0
                self.since += len(places)
                continue
            for at in places:
                self._unit(at)

    def _difference(self, at: int) -> int:
        assert self.wanted is not None  # noqa: S101 - writing
        return (_load(self.wanted, at) - _load(self.out, at)) & _M16

    def _unit(self, at: int) -> None:
        made, before, odd = _load(self.out, at), _load(self.out, at - UNIT) if at else 0, at >> 1 & 1
        distance = min(self.since.bit_length(), 5) + (self.since >= 64)
        difference = self._difference(at) if self.wanted is not None else 0
        contexts = (
            _hash(made >> 8 << 3 | distance, 11),
            _hash(made, 12),
            _hash(before >> 8 << 3 | distance, 13),
            _hash(self.flags, 14 | odd << 8),
            _hash(before, 17 | made & 0xFF00),
        )
        changes = self.model.mix(contexts, 1, FLAG_SETS + distance * 2 + odd, int(difference != 0))
        if changes:
            self.flags = (self.flags << 1 | 1) & 0xFF
            self.since = 0
            difference = self._value(made, before, odd, difference)
            self.before_last, self.last = self.last, difference
            total = (made + difference & _M16).to_bytes(UNIT, "little")
            self.out[at : at + UNIT] = total[: len(self.out) - at]
        else:
            self.flags = self.flags << 1 & 0xFF
            self.since += 1

    def _value(self, made: int, before: int, odd: int, difference: int) -> int:
        top, low = made >> 8, 0
        history = self.flags & 15 | odd << 4 | before & 0xFF00
        contexts: Sequence[int] = (
            _hash(0, 20),
            _hash(top, 21),
            _hash(made, 22),
            _hash(self.last & 0xFF, 24),
            _hash(self.last, 25),
            _hash(history, 28),
            _hash(made & 0xFF | odd << 8, 30),
        )
        low = self._byte(contexts, 0, difference & 0xFF)
        kind = 2 if low else 1
        contexts = (
            _hash(kind, 20),
            _hash(kind << 8 | top, 21),
            _hash(made | low << 16, 23),
            _hash(low | kind << 8, 24),
            _hash(self.last | kind << 16, 25),
            _hash(low | top << 8, 29),
            _hash(low | self.before_last << 8, 31),
        )
        return low | self._byte(contexts, kind, difference >> 8) << 8

    def _byte(self, contexts: Sequence[int], kind: int, byte: int) -> int:
        node = 1
        for bit in range(7, -1, -1):
            node = node << 1 | self.model.mix(contexts, node, BYTE_SETS + kind * 8 + bit, byte >> bit & 1)
        return node & 0xFF


def _load(data: bytes | bytearray | memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + UNIT], "little")


def add_adaptive(out: bytearray | memoryview, pieces: Sequence[int], stream: bytes | memoryview, /) -> None:
    """Change the units of a block that pieces cover.

    Args:
        out: The block.
        pieces: Offset in the block and length of each piece, flat, ascending and without overlap.
        stream: How, as FORMAT.md section 14 says.

    Raises:
        CorruptError: Bytes of the stream are left over.
    """
    model = _Model(len(out), stream)
    _Units(model, out, None).run(covered_units(pieces, UNIT))
    if model.at < len(stream):
        raise CorruptError(f"predicted block: {len(stream) - model.at} bytes of residuals left over, expected none")


def write_adaptive(made: bytes | bytearray | memoryview, wanted: bytes | memoryview, pieces: Sequence[int], /) -> bytes:
    """Return the stream that turns `made` into `wanted`, which differ in covered units only."""
    model = _Model(len(made), None)
    _Units(model, bytearray(made), wanted).run(covered_units(pieces, UNIT))
    return model.end()
