"""Blocks from their blobs for the second reader, written from FORMAT.md sections 6, 7 and 13 alone. It shares no code with the package."""

from tests import spec_adaptive, spec_predict
from tests.spec_bytes import Bytes, SpecIncompatibleError, decode_bytes, need, read_column, read_columns, sha

RAW, FILL, COPY, COMPRESSED, DELTA, WINDOW, PREDICTED = range(7)
FROM_PIECES = (COPY, DELTA, PREDICTED)
FROM_OLD = (*FROM_PIECES, WINDOW)


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
