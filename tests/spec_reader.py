"""A second reader of the bundle format, written from packager/vehicle/FORMAT.md alone. It shares no code with the package.

It holds a whole bundle in memory and checks every rule of the text; section numbers below are those of the text.
"""

import hashlib
import lzma
from dataclasses import dataclass
from itertools import pairwise

import zstandard

from tests import spec_adaptive, spec_predict

RAW, FILL, COPY, COMPRESSED, DELTA, WINDOW, PREDICTED = range(7)
FROM_PIECES = (COPY, DELTA, PREDICTED)
FROM_OLD = (*FROM_PIECES, WINDOW)
NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-")


class SpecCorruptError(Exception):
    """The bundle breaks a rule."""


class SpecIncompatibleError(Exception):
    """The bundle is for another reader or old image."""


def need(condition, rule):
    if not condition:
        raise SpecCorruptError(rule)


def sha(data):
    return hashlib.sha256(data).digest()


class Bytes:
    """Section 2."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width):
        return sum(byte << 8 * place for place, byte in enumerate(self.take(width)))

    def varint(self):
        value = 0
        for place in range(9):
            byte = self.number(1)
            value += (byte & 127) << 7 * place
            if byte < 128:
                need(byte or not place, "varint not shortest")
                return value
        raise SpecCorruptError("varint longer than nine bytes")

    def signed(self):
        value = self.varint()
        return -(value + 1) // 2 if value % 2 else value // 2

    def name(self, empty=False):
        raw = self.take(self.number(1))
        fine = len(raw) <= 64 and set(raw) <= NAME_CHARACTERS and raw[:1].isalnum()
        need(fine or (empty and not raw), "not a name")
        return raw.decode()

    def end(self):
        need(self.at == len(self.data), "bytes left over")


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
        memory += (
            8 * caps.values
            + 16 * caps.segments
            + -(-caps.new[0] // 4096)
            + (caps.source if caps.new[0] <= caps.block else 0)
        )
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


def make_block(record, blob, old, pieces, size, caps, rules):
    """Section 6."""
    need(sha(blob) == record["blob"], "blob is not the signed one")
    op, source = record["op"], b""
    if op == WINDOW:
        source = old[record["window"][0] : sum(record["window"])]
    elif op in FROM_PIECES:
        source = b"".join(old[first : first + length] for _, first, length in pieces)
    need(len(source) <= caps.source, "longest old part")
    if op in FROM_OLD:
        implied = record["source"] is None
        if sha(old if implied else source) != (caps.old[1] if implied else record["source"]):
            raise SpecIncompatibleError("old part")
    if op == RAW:
        return blob
    if op == FILL:
        need(len(blob) == 1, "fill")
        return blob * size
    if op == COPY:
        need(not blob, "copy")
        return source
    if op in (COMPRESSED, WINDOW):
        return decode_bytes(record["coder"], blob, size, caps, source)
    data = Bytes(blob)
    if op == PREDICTED:
        whole = old if record["source"] is None else b""
        return predicted(data, whole, old, pieces, record["block"] * caps.block, size, caps, rules)
    literals, controls, values = read_columns(data, caps)
    return delta(size, source, [(first, length) for first, _, length in pieces], literals, controls, values)


def delta(size, source, pieces, literals, controls, values):
    """Section 7."""
    changed, controls, values, literals = bytearray(source), Bytes(controls), Bytes(values), Bytes(literals)
    at = 0
    while controls.at < len(controls.data):
        at += controls.varint()
        run = controls.varint()
        need(run >= 1 and at + run <= len(changed), "run leaves the old part")
        for value in values.take(run):
            changed[at] = (changed[at] + value) % 256
            at += 1
    values.end()
    block, taken = b"", 0
    for first, length in pieces:
        block += literals.take(first - len(block)) + changed[taken : taken + length]
        taken += length
    block += literals.take(size - len(block))
    literals.end()
    return block


def read_predictors(section, caps, segments):
    """Section 13, section 4 of the head."""
    data = Bytes(section)
    version, count = data.number(1), data.number(1)
    if version != 1:
        raise SpecIncompatibleError("version of the predictors")
    need(1 <= count <= 16, "number of modes")
    modes = [(data.number(1), data.number(1), data.signed() % (1 << 64)) for _ in range(count)]
    if any(instructions > 8 for instructions, _, _ in modes):
        raise SpecIncompatibleError("instruction set or group")
    length = -(-caps.new[0] // 4096)
    pages = read_column(data, length, caps) if count > 1 else bytes(length)
    values = read_values(data, caps) if caps.values else {}
    data.end()
    need(len(pages) == length and max(pages) < count, "modes of the pages")
    return spec_predict.Rules(modes, pages, segments, caps.old[0], caps.new[0], values)


def read_values(data, caps):
    """Section 13, value map."""
    gaps = Bytes(read_column(data, caps.decoded, caps))
    changes = Bytes(read_column(data, caps.decoded - len(gaps.data), caps))
    values, last, change = {}, -1, 0
    for _ in range(caps.values):
        last += gaps.varint() + 1
        change += changes.signed()
        need(last < 1 << 32, "a number of the value map")
        values[last] = (last + change) % (1 << 32)
    gaps.end()
    changes.end()
    return values


def predicted(data, whole, old, pieces, start, size, caps, rules):
    """Section 13, blob."""
    flags = data.number(1)
    need(flags < 64 and flags & 3 < 3 and flags & 12 < 12, "flags")
    need(flags < 32 or (flags & 3 == 1 and 3 in caps.coders), "unit or coder of adaptive residuals")
    need(whole or not flags & 8, "the whole old image is not the old part")
    pieces = [] if flags & 16 else pieces
    source = b""
    for first, old_offset, length in pieces:
        piece = bytearray(old[old_offset : old_offset + length])
        spec_predict.rewrite(rules, "old", piece, start + first, old_offset)
        source += piece
    prefix = source if flags & 4 else b""
    if flags & 8:
        prefix = bytearray(whole)
        spec_predict.rewrite(rules.everywhere_first(), "old", prefix, 0, 0)
    literals = read_column(data, caps.decoded, caps, bytes(prefix))
    if flags & 32:
        covered = [(first, length) for first, _, length in pieces]
        block = bytearray(delta(size, source, covered, literals, b"", b""))
        spec_adaptive.add_adaptive(block, covered, data.take(len(data.data) - data.at), need)
        spec_predict.rewrite(rules, "undo", block, start)
        return bytes(block)
    gaps = read_column(data, caps.decoded - len(literals), caps)
    values = read_column(data, caps.decoded - len(literals) - len(gaps), caps)
    data.end()
    covered = [(first, length) for first, _, length in pieces]
    block = bytearray(delta(size, source, covered, literals, b"", b""))
    numbers, gaps = [], Bytes(gaps)
    while gaps.at < len(gaps.data):
        numbers.append(gaps.varint())
    spec_predict.add_residuals(block, covered, numbers, values, 1 << (flags & 3), need)
    spec_predict.rewrite(rules, "undo", block, start)
    return bytes(block)


def read_columns(data, caps):
    """Section 8: three columns up to the end, within the cap on decoded bytes."""
    columns, left = [], caps.decoded
    for _ in range(3):
        columns.append(read_column(data, left, caps))
        left -= len(columns[-1])
    data.end()
    return columns


def read_column(data, most, caps, prefix=b""):
    """Section 8."""
    length, coder = divmod(data.varint(), 4)
    need(length <= most and coder < 3, "decoded columns")
    coded = data.take(data.varint() if coder else length)
    return decode_bytes(coder, coded, length, caps, prefix) if coder else coded


def decode_bytes(coder, coded, length, caps, prefix):
    """Section 8."""
    need(coder in caps.coders and length > 0, "coder")
    if coder == 2 and prefix:
        chunks = [prefix[at : at + 65_536] for at in range(0, len(prefix), 65_536)]
        stored = b"".join(b"\2" + (len(chunk) - 1).to_bytes(2, "big") + chunk for chunk in chunks)
        size = max(4096, len(prefix) + length)
        engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": size}])
        content = run(engine, b"\1" + stored[1:] + coded)
        need(engine.eof and not engine.unused_data, "LZMA2 end")
        content = content[len(prefix) :]
    elif coder == 2:
        need(coded and coded[0] <= 224 and coded[0] % 9 + coded[0] // 9 % 5 <= 4, "LZMA properties")
        options = {"lc": coded[0] % 9, "lp": coded[0] // 9 % 5, "pb": coded[0] // 45, "dict_size": max(4096, length)}
        engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, **options}])
        content = run(engine, coded[1:])
        need(engine.eof and not engine.unused_data, "LZMA end")
    else:
        content = decode_zstd(coded, length, caps, prefix)
    need(len(content) == length, "decoded length")
    return content


def decode_zstd(coded, length, caps, prefix):
    """Read the frame header of RFC 8878 by hand, then decode with the magic number put back."""
    data = Bytes(coded)
    descriptor = data.number(1)
    single = descriptor >> 5 & 1
    need(not descriptor & 0b1111, "dictionary id, checksum or reserved bit")
    window = 0
    if not single:
        byte = data.number(1)
        window = (1 << 10 + (byte >> 3)) + ((1 << 10 + (byte >> 3)) >> 3) * (byte & 7)
    width = (single, 2, 4, 8)[descriptor >> 6]
    size = data.number(width) + (256 if width == 2 else 0)
    need(width and size == length and (size if single else window) <= caps.window, "content size or window")
    raw = zstandard.ZstdCompressionDict(prefix, zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    engine = zstandard.ZstdDecompressor(dict_data=raw, max_window_size=1 << 27).decompressobj()
    content = run(engine, b"\x28\xb5\x2f\xfd" + coded)
    need(engine.eof and not engine.unused_data, "zstd end")
    return content


def run(engine, coded):
    try:
        return engine.decompress(coded)
    except (lzma.LZMAError, zstandard.ZstdError) as error:
        raise SpecCorruptError("malformed stream") from error
