"""Prediction in data, for `_pure_predict`: lists of cells in database pages, tables of distances, records of one length."""

from typing import Final, Literal

from packager.vehicle._pure_fields import extend
from packager.vehicle._pure_stretch import LONG, PAGE_BYTES, WORD, Kind, Stretch
from packager.vehicle.instructions import Group

INNER_PAGES: Final = (2, 5)
LEAF_PAGES: Final = (10, 13)
"""First byte of a b-tree page of an index and of a table (SQLite file format, 1.6)."""
MAX_DISTANCES_BYTES: Final = 1 << 30
"""In longer images distances and targets could not be told apart."""
MAX_RECORD_BYTES: Final = 255
_UPPER: Final = 1 << 31


def scan_cells(stretch: Stretch, groups: int, at: int, end: int) -> int:
    """Rewrite where the cells of b-tree pages are: each place becomes the distance from the one before."""
    while at < end and groups & Group.CALLS:
        offset = (stretch.at + at) % PAGE_BYTES
        if not offset:
            _rewrite_cells(stretch, at)
        elif stretch.kind == Kind.LABEL_OLD:
            _guess_cells(stretch, at, offset)
        at += PAGE_BYTES - offset
    return max(at, end)


def _rewrite_cells(stretch: Stretch, at: int) -> None:
    """Rewrite those of the page that starts at `at`; its header tells how many there are, and is not touched."""
    if len(stretch.data) - at < 8 or stretch.data[at] not in INNER_PAGES + LEAF_PAGES:
        return
    start = 12 if stretch.data[at] in INNER_PAGES else 8
    count = _load_place(stretch, at + 3)
    if start + 2 * count > PAGE_BYTES:
        return
    before = PAGE_BYTES
    for entry in range(at + start, min(at + start + 2 * count, len(stretch.data) - 1), 2):
        found = _load_place(stretch, entry)
        _store_place(stretch, entry, before - found)
        before = before - found & 0xFFFF if stretch.kind == Kind.UNLABEL else found


def _guess_cells(stretch: Stretch, at: int, offset: int) -> None:
    """Rewrite those of an old page whose header is not in the stretch: numbers that descend, and lead behind themselves."""
    at, offset = at + offset % 2, offset + offset % 2
    if offset >= PAGE_BYTES or len(stretch.data) - at < 2:
        return
    before = _load_place(stretch, at)
    while before < PAGE_BYTES and offset + 4 <= PAGE_BYTES and len(stretch.data) - at >= 4:
        at, offset = at + 2, offset + 2
        found = _load_place(stretch, at)
        if not offset + 2 <= found < before:
            return
        _store_place(stretch, at, before - found)
        before = found


def _load_place(stretch: Stretch, at: int) -> int:
    return int.from_bytes(stretch.data[at : at + 2], "big")


def _store_place(stretch: Stretch, at: int, value: int) -> None:
    stretch.data[at : at + 2] = (value & 0xFFFF).to_bytes(2, "big")


def scan_distances(stretch: Stretch, groups: int, least: int, at: int, end: int) -> int:
    """Rewrite distances of 4 bytes from their own place.

    Targets stand in the upper half of the numbers, where no distance is in so short an image; what was there takes the distance's
    place: doing it twice is doing nothing.
    """
    context = stretch.context
    if not groups & Group.CALLS or context.new_bytes > MAX_DISTANCES_BYTES:
        return end
    at += -(stretch.at + at) & 3
    while at < end and len(stretch.data) - at >= 4:
        place, word = (stretch.at + at) & LONG, stretch.load(at, 4)
        back = (word - place - _UPPER) & WORD
        if stretch.kind == Kind.LABEL_OLD:
            if _is_far(word, place, least, context.old_bytes):
                stretch.store(at, 4, context.map((place + extend(word, 32)) & LONG) + _UPPER)
        elif _is_far(word, place, least, context.new_bytes):
            stretch.store(at, 4, word + place + _UPPER)
        elif _is_far(back, place, least, context.new_bytes):
            stretch.store(at, 4, back)
        at += 4
    return max(at, end)


def scan_records(stretch: Stretch, groups: int, record_bytes: int, at: int, end: int) -> int:
    """Rewrite records of one length: all bytes are one number, from which the same is subtracted, moved by a record.

    Little-endian the record before is subtracted, big-endian the one behind.
    """
    if 0 < record_bytes <= MAX_RECORD_BYTES and groups & (Group.CALLS | Group.CONDITIONAL):
        order: Literal["little", "big"] = "little" if groups & Group.CALLS else "big"
        bits = 8 * (end - at)
        number = int.from_bytes(stretch.data[at:end], order)
        if stretch.kind == Kind.UNLABEL:
            shift = 8 * record_bytes
            while shift < bits:  # 1 / (1 - x) = (1 + x) (1 + x^2) (1 + x^4) ...
                number = (number + (number << shift)) & ((1 << bits) - 1)
                shift *= 2
        else:
            number = (number - (number << 8 * record_bytes)) & ((1 << bits) - 1)
        stretch.data[at:end] = number.to_bytes(end - at, order)
    return end


def _is_far(word: int, place: int, least: int, image_bytes: int) -> bool:
    """Tell whether a word is a distance to another place of the image, and not a short one: those are taken for lengths and flags."""
    distance = extend(word, 32)
    return abs(distance) >= least and place < image_bytes and 0 <= place + distance < image_bytes
