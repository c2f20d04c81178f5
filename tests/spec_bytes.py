"""Numbers, columns and coders for the second reader, written from FORMAT.md sections 2 and 8 alone. It shares no code with the package."""

import hashlib
import lzma

import zstandard

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
