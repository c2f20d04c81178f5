"""Fields of single instructions, for `_pure_predict`: numbers in, numbers out."""

from packager.vehicle.instructions import Instruction, Slice


def find(rows: tuple[Instruction, ...], groups: int, word: int, left: int) -> Instruction | None:
    """Return the first row that matches the instruction `word`, is in one of the groups and not longer than what is left."""
    for row in rows:
        if row.group & groups and row.width_bytes <= left and not (word ^ row.value) & row.mask:
            return row
    return None


def gather(word: int, slices: tuple[Slice, ...]) -> int:
    """Return the field that lies in these bits."""
    return sum((word >> piece.at & ((1 << piece.width) - 1)) << piece.field for piece in slices)


def scatter(word: int, field: int, slices: tuple[Slice, ...]) -> int:
    """Return the instruction with another field in these bits."""
    for piece in slices:
        mask = (1 << piece.width) - 1
        word = word & ~(mask << piece.at) | (field >> piece.field & mask) << piece.at
    return word


def invert_by_sign(field: int, bits: int) -> int:
    """Invert the two bits below the highest one of a field where that is 0, as Thumb-2 stores J1 and J2; undoes itself."""
    return field if field >> (bits - 1) & 1 else field ^ 3 << (bits - 3)


def extend(value: int, bits: int) -> int:
    """Return a field as signed number in two's complement."""
    sign = 1 << (bits - 1)
    return (value ^ sign) - sign


def signed(value: int) -> int:
    """Return a number modulo 2**64 as signed one."""
    return extend(value, 64)


def page_scale(word: int, base: int) -> int | None:
    """Return log2 of the unit of the offset that `word` adds to the page in register `base`; None if it is no such instruction."""
    if word >> 5 & 31 != base:
        return None
    if word & 0xFFC00000 == 0x91000000:
        return 0
    if word & 0x3B000000 == 0x39000000:
        return 4 if word & 0x04800000 == 0x04800000 else word >> 30
    return None


def ends_page_search(word: int, base: int) -> bool:
    """Tell whether what completes the page in register `base` is not looked for behind `word`: a branch, or another page for it."""
    is_branch = word & 0x7C000000 in (0x14000000, 0x34000000) or word & 0xFE000000 == 0xD6000000
    is_next_page = word & 0x9F000000 == 0x90000000 and word & 31 == base
    return is_branch or word & 0xFF000010 == 0x54000000 or is_next_page


def completes_pair(word: int, base: int, *, is_store: bool) -> bool:
    """Tell whether `word` adds its lower 12 bits to what AUIPC left in register `base`."""
    opcode, function = word & 0x7F, word >> 12 & 7
    adds = opcode in (0x03, 0x07) or (opcode in (0x13, 0x67) and not function)
    return word >> 15 & 31 == base and (is_store or adds)
