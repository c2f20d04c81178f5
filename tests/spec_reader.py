"""A second reader of the bundle format, written from packager/vehicle/FORMAT.md alone. It shares no code with the package.

It holds a whole bundle in memory and checks every rule of the text; section numbers below are those of the text.
"""

from dataclasses import dataclass
from itertools import pairwise

from tests.spec_blocks import COMPRESSED, FROM_OLD, PREDICTED, WINDOW, make_block, read_predictors
from tests.spec_bytes import Bytes, SpecCorruptError, SpecIncompatibleError, need, read_columns, sha

__all__ = ["SpecCorruptError", "SpecIncompatibleError", "decode", "sha"]


@dataclass
class Caps:
    block: int
    window: int
    ops: set
    coders: set
    new: tuple
    old: tuple
    blob: int
    source: int
    decoded: int
    segments: int
    memory: int
    in_place: bool
    scratch: int
    values: int


def decode(bundle, old, signed_length, signed_sha):
    """Return the new image."""
    head, blobs = bundle[:signed_length], bundle[signed_length:]
    need(len(head) == signed_length and sha(head) == signed_sha, "not the signed head")
    sections, required = read_framing(head)
    caps = read_manifest(sections[1])
    wanted = (1 in caps.coders) + 2 * (2 in caps.coders) + 4 * (WINDOW in caps.ops) + 8 * caps.in_place
    wanted += 16 * (PREDICTED in caps.ops) + 32 * (3 in caps.coders)
    need(required == wanted, "required features are not those of the manifest")
    longest = min(caps.block, caps.new[0])
    memory = len(head) + 20 * caps.segments + caps.blob + caps.decoded + caps.source + longest
    if PREDICTED in caps.ops:
        memory += 8 * caps.values + 16 * caps.segments - (-caps.new[0] // 4096)
        memory += caps.source if caps.new[0] <= caps.block else 0
    memory += 196_608 if 1 in caps.coders else 0
    memory += 65_536 + max(longest, caps.decoded) if 2 in caps.coders else 0
    memory += caps.source if 2 in caps.coders and PREDICTED in caps.ops else 0
    memory += 12_288 + (4 << next((k for k in range(12, 16) if 4 << k >= longest), 16)) if 3 in caps.coders else 0
    need(caps.memory == memory, "memory is not that of section 9")
    records = read_index(sections[2], caps)
    need((3 in sections) == (caps.segments > 0), "segment map missing or unwanted")
    segments = read_map(sections[3], caps) if 3 in sections else []
    need((4 in sections) == (PREDICTED in caps.ops), "predictors missing or unwanted")
    rules = read_predictors(sections[4], caps, segments) if 4 in sections else None
    need(5 not in sections or caps.in_place, "spills without in-place")
    spills = read_spills(sections[5], caps) if 5 in sections else []
    spilled = sum(length for _, length in spills)
    need(caps.scratch == (longest + spilled if caps.in_place else 0), "scratch is not that of section 12")
    need(len(blobs) == sum(record["length"] for record in records), "length of the blobs")
    image, at = bytearray(caps.new[0]), 0
    slot = Slot(old, caps, spills) if caps.in_place else None
    for record in records:
        start = record["block"] * caps.block
        size = min(caps.block, caps.new[0] - start)
        pieces = []
        for new_offset, old_offset, length in segments:
            first, last = max(new_offset, start), min(new_offset + length, start + size)
            if first < last:
                pieces.append((first - start, old_offset + first - new_offset, last - first))
        source = slot.old_image() if slot else old
        block = make_block(record, blobs[at : at + record["length"]], source, pieces, size, caps, rules)
        need(len(block) == size and sha(block) == record["output"], "block is not the signed one")
        image[start : start + size] = block
        if slot:
            slot.content[start : start + size] = block
        at += record["length"]
    need(sha(image) == caps.new[1], "image is not the signed one")
    need(not slot or slot.content[: caps.new[0]] == image, "what was overwritten in place is the image, too")
    return bytes(image)


class Slot:
    """Section 12: the only slot, and what was put aside of it."""

    def __init__(self, old, caps, spills):
        self.content = bytearray(old.ljust(max(caps.new[0], caps.old[0]), b"\0"))
        self.old_length = caps.old[0]
        self.spills = [(first, old[first : first + length]) for first, length in spills]

    def old_image(self):
        """What is left of the old image."""
        left = self.content[: self.old_length]
        for first, stretch in self.spills:
            left[first : first + len(stretch)] = stretch
        return bytes(left)


def read_framing(head):
    """Section 3."""
    data = Bytes(head[:-32])
    need(48 <= len(head) <= 1 << 24 and data.take(4) == b"\x89OTA", "not a head")
    if data.number(2) != 1:
        raise SpecIncompatibleError("format version")
    count, required, _ = data.number(2), data.number(4), data.number(4)
    if required & ~63:
        raise SpecIncompatibleError("required feature")
    need(1 <= count <= 16, "number of sections")
    table = [(data.number(1), data.number(1), data.number(4)) for _ in range(count)]
    need(all(a[0] < b[0] for a, b in pairwise(table)) and table[0][0] > 0, "section ids")
    need(all(flags < 2 for _, flags, _ in table), "section flags")
    sections = {}
    for number, flags, length in table:
        content = data.take(length)
        if number <= 5:
            need(flags == 1, "known sections are critical")
            sections[number] = content
        elif flags:
            raise SpecIncompatibleError("critical section")
    data.end()
    need(sha(head[:-32]) == head[-32:], "own hash")
    need(1 in sections and 2 in sections, "sections of this version")
    return sections, required


def read_manifest(section):
    """Section 4."""
    data = Bytes(section)
    kind, block, flags, window = (data.number(1) for _ in range(4))
    ops, coders = data.number(2), data.number(2)
    if kind > 1 or flags > 1 or ops >= 1 << 7 or coders >= 1 << 4:
        raise SpecIncompatibleError("unknown kind, flag, operation or coder")
    new = data.varint(), data.take(32)
    old = (data.varint(), data.take(32)) if kind else (0, b"")
    blob, source, decoded, segments, scratch, counter = (data.varint() for _ in range(6))
    memory = data.number(4)
    data.name(empty=True)
    ids = [data.name() for _ in range(data.number(1))]
    values = data.varint() if ops >> PREDICTED & 1 else 0
    data.end()
    ops = {number for number in range(7) if ops >> number & 1}
    coders = {number for number in range(4) if coders >> number & 1}
    need(12 <= block <= 22 and 1 <= new[0] <= 1 << 40, "block size or new length")
    need(not kind or 1 <= old[0] <= 1 << 40, "old length")
    need(kind or not (ops & set(FROM_OLD) or segments or source or flags), "full bundle reads old image")
    need(3 not in coders or PREDICTED in ops, "adaptive residuals without predicted blocks")
    need(0 in coders and (1 <= window <= 27 if 1 in coders else window == 0), "coders or window")
    need(
        max(blob, source, decoded, scratch, counter) < 1 << 32 and segments <= 1 << 22 and values <= 1 << 20,
        "a cap is too large",
    )
    need(flags or not scratch, "scratch without in-place")
    need(len(ids) <= 16 and all(a < b for a, b in pairwise(ids)), "hardware ids")
    return Caps(
        1 << block,
        1 << window,
        ops,
        coders,
        new,
        old,
        blob,
        source,
        decoded,
        segments,
        memory,
        bool(flags),
        scratch,
        values,
    )


def read_index(section, caps):
    """Section 5."""
    data = Bytes(section)
    layout, width = data.number(1), data.number(1)
    if layout > 15:
        raise SpecIncompatibleError("layout")
    numbered, windowed, hashed, sourced = (layout >> bit & 1 for bit in range(4))
    count = -(-caps.new[0] // caps.block)
    reads = bool(caps.ops & set(FROM_OLD))
    need(width == max(1, -(-caps.blob.bit_length() // 8)), "width of lengths")
    need(windowed == (WINDOW in caps.ops) and hashed == (count > 1) and numbered <= caps.in_place, "layout")
    implied = reads and not sourced
    need(not sourced or reads, "hashes of old parts that nothing reads")
    need(not implied or (count == 1 and caps.old[0] <= 1 << 22 and caps.source >= caps.old[0]), "implied hash")
    records = []
    for position in range(count):
        block = data.number(4) if numbered else position
        op, coder, length = data.number(1), data.number(1), data.number(width)
        window = (data.number(8), data.number(4)) if windowed else (0, 0)
        blob_hash = data.take(32)
        output = data.take(32) if hashed else caps.new[1]
        source = data.take(32) if sourced else None
        need(op in caps.ops and coder in caps.coders, "operation or coder not in the manifest")
        need(coder in {COMPRESSED: (1, 2), WINDOW: (1,)}.get(op, (0,)), "coder of the operation")
        need((op == WINDOW) == (window[1] > 0) and (window[1] or not window[0]), "window")
        need(window[1] <= caps.source and sum(window) <= caps.old[0], "window leaves the old image")
        need(source is None or (source == bytes(32)) == (op not in FROM_OLD), "hash of the old part")
        records.append(
            {"block": block, "op": op, "coder": coder, "length": length, "window": window}
            | {"blob": blob_hash, "output": output, "source": source}
        )
    data.end()
    order = [record["block"] for record in records]
    need(sorted(order) == list(range(count)) and numbered == (order != sorted(order)), "block numbers")
    need({record["op"] for record in records} == caps.ops, "operations are not exact")
    need(max(record["length"] for record in records) == caps.blob, "longest blob is not exact")
    return records


def read_map(section, caps):
    """Section 8, segment map."""
    data = Bytes(section)
    count = data.varint()
    need(count == caps.segments, "number of segments")
    gaps, lengths, diagonals = (Bytes(column) for column in read_columns(data, caps))
    segments, at, diagonal = [], 0, 0
    for _ in range(count):
        at += gaps.varint()
        length = lengths.varint()
        diagonal += diagonals.signed()
        need(1 <= length < 1 << 32 and at + length <= caps.new[0], "segment leaves the new image")
        need(at + diagonal >= 0 and at + diagonal + length <= caps.old[0], "segment leaves the old image")
        segments.append((at, at + diagonal, length))
        at += length
    for column in (gaps, lengths, diagonals):
        column.end()
    return segments


def read_spills(section, caps):
    """Section 12."""
    data, spills, end = Bytes(section), [], -1
    data.take(32)  # tells a reader that was cut off whether its copy is whole; this one is never cut off
    while data.at < len(section):
        first, length = data.number(8), data.number(4)
        need(first > end and length and first + length <= caps.old[0], "spill")
        spills.append((first, length))
        end = first + length
    need(1 <= len(spills) <= 65_536, "number of spills")
    return spills
