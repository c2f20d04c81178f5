"""Bounded decompression: the traps of the bindings, closed."""

import contextlib
import lzma
import struct
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from packager.diff import lzma as lzma_writer
from packager.diff import zstd as zstd_writer
from packager.vehicle.core import codec
from packager.vehicle.core.codec import CodecLimits, decode, read_column, read_columns
from packager.vehicle.errors import CorruptError
from packager.vehicle.profile import Coder
from packager.vehicle.wire import Cursor, encode_varint
from tests.sample_bundles import noise, text

DATA = text(40, 5000)
LIMITS = CodecLimits(frozenset(Coder), 1 << 20)
MAGIC = struct.pack("<I", zstandard.MAGIC_NUMBER)
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


def zstd(
    data: bytes = DATA, *, size: bool = True, checksum: bool = False, dictionary: int = 0, window_log: int = 0
) -> bytes:
    options = {"window_log": window_log} if window_log else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=size,
        write_checksum=checksum,
        write_dict_id=bool(dictionary),
        **options,
    )
    trained = (
        zstandard.train_dictionary(2048, [text(seed, 400) for seed in range(60)], dict_id=dictionary)
        if dictionary
        else None
    )
    if size:
        return zstandard.ZstdCompressor(compression_params=parameters, dict_data=trained).compress(data)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return engine.compress(data) + engine.flush()


def unzstd(coded: bytes, length: int = len(DATA), limits: CodecLimits = LIMITS) -> bytes:
    return bytes(decode(Coder.ZSTD, coded, length, "thing", limits))


def test_good_frames() -> None:
    assert unzstd(zstd_writer.compress(DATA)) == DATA
    assert unzstd(zstd()) == DATA
    assert unzstd(zstd_writer.compress(b"x"), 1) == b"x"
    window = noise(41, 3000)
    coded = zstd_writer.compress(window[500:2500], 19, window)
    assert len(coded) < 50
    assert decode(Coder.ZSTD, coded, 2000, "thing", LIMITS, bytearray(window)) == window[500:2500]
    with pytest.raises(CorruptError):
        unzstd(coded, 2000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zstd(size=False), "zstd frame declares"),
        (lambda: zstd(checksum=True), "checksum True"),
        (lambda: zstd(dictionary=77), "dictionary 77"),
        (lambda: zstd() + b"\0", "unused data"),
        (lambda: zstd() + zstd(), "unused data"),
        (lambda: zstd() + SKIPPABLE, "unused data"),
        (lambda: zstd() + MAGIC + zstd(), "unused data"),
        (lambda: SKIPPABLE + zstd(), ""),
        (lambda: MAGIC + zstd(), ""),
        (lambda: b"", ""),
        (lambda: noise(42, 900), ""),
    ],
    ids=[
        "no content size",
        "checksum",
        "dictionary id",
        "trailing byte",
        "second frame",
        "skippable frame behind",
        "second frame with magic",
        "skippable frame before",
        "magic",
        "empty",
        "noise",
    ],
)
def test_bad_frames(make: Callable[[], bytes], message: str) -> None:
    with pytest.raises(CorruptError, match=f"thing: .*{message}"):
        unzstd(make())


@pytest.mark.parametrize("length", [0, 1, len(DATA) - 1, len(DATA) + 1])
def test_another_length_than_the_expected_one(length: int) -> None:
    with pytest.raises(CorruptError, match="thing"):
        unzstd(zstd(), length)


def test_truncated_frames_are_never_short_data() -> None:
    coded = zstd()
    for end in range(len(coded)):
        with pytest.raises(CorruptError):
            unzstd(coded[:end])


def test_every_flipped_byte_gives_the_exact_length_or_corrupt() -> None:
    coded = zstd()
    for at in range(len(coded)):
        changed = bytearray(coded)
        changed[at] ^= 0x11
        with contextlib.suppress(CorruptError):
            assert len(unzstd(bytes(changed))) == len(DATA)


def test_a_lying_content_size_allocates_nothing() -> None:
    """The binding would allocate the declared gigabyte whatever `max_output_size` says."""
    bomb = bytes((0xA0,)) + (1 << 30).to_bytes(4, "little") + zstd()[3:]
    tracemalloc.start()
    with pytest.raises(CorruptError, match="declares 1073741824 bytes"):
        unzstd(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_bomb_ends_at_the_expected_length() -> None:
    coded = zstd(bytes(1 << 24))
    assert len(coded) < 2000
    with pytest.raises(CorruptError, match="declares 16777216 bytes"):
        unzstd(coded, 1 << 10)
    shorter = bytes((0xA0,)) + (1 << 10).to_bytes(4, "little") + coded[5:]  # claims less than it holds
    with pytest.raises(CorruptError):
        unzstd(shorter, 1 << 10)


def test_windows_from_both_sides() -> None:
    coded = zstd(bytes(1 << 22), window_log=21)
    frame = zstandard.get_frame_parameters(coded, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    assert frame.window_size == 1 << 21
    assert unzstd(coded, 1 << 22, CodecLimits(frozenset(Coder), 1 << 21)) == bytes(1 << 22)
    with pytest.raises(CorruptError, match="window of 2097152 bytes, expected at most 2097151"):
        unzstd(coded, 1 << 22, CodecLimits(frozenset(Coder), (1 << 21) - 1))


def test_a_window_of_two_gibibytes() -> None:
    header = bytes((0x80, 21 << 3)) + len(DATA).to_bytes(4, "little")  # no single segment; window 2**31
    with pytest.raises(CorruptError, match="window of 2147483648 bytes"):
        unzstd(header + zstd()[3:])


def unlzma(coded: bytes, length: int = len(DATA)) -> bytes:
    return bytes(decode(Coder.LZMA, coded, length, "thing", LIMITS))


GOOD = lzma_writer.compress(DATA)


def test_good_lzma_streams() -> None:
    for length in (1, 2, 4095, 4096, 4097, len(DATA)):
        assert unlzma(lzma_writer.compress(DATA[:length]), length) == DATA[:length]


@pytest.mark.parametrize(
    ("coded", "length"),
    [
        (b"", len(DATA)),
        (GOOD[:1], len(DATA)),
        (GOOD + b"\0", len(DATA)),
        (GOOD + GOOD, len(DATA)),
        (GOOD, len(DATA) - 1),
        (GOOD, len(DATA) + 1),
        (GOOD, 0),
        (GOOD, 1),
        (bytes((225,)) + GOOD[1:], len(DATA)),
        (bytes((255,)) + GOOD[1:], len(DATA)),
        (bytes((8 + 9 * 4,)) + GOOD[1:], len(DATA)),  # lc 8, lp 4
        (lzma.compress(DATA), len(DATA)),
        (lzma.compress(DATA, lzma.FORMAT_ALONE), len(DATA)),
    ],
    ids=[
        "empty",
        "only properties",
        "trailing",
        "twice",
        "long",
        "short",
        "for nothing",
        "for one",
        "225",
        "255",
        "lc+lp",
        "xz",
        "alone",
    ],
)
def test_bad_lzma_streams(coded: bytes, length: int) -> None:
    with pytest.raises(CorruptError, match="thing"):
        unlzma(coded, length)


WINDOW = bytes(range(200)) * 2
BEHIND = bytes.fromhex("c000dd00110300b8e3a537194f6572143417de759182957500")
BEHIND_DATA = WINDOW[30:190] + b"new" + WINDOW[5:60] + b"code"
"""What liblzma 5.4 made of this, with the window as preset dictionary."""


def behind(coded: bytes, length: int = len(BEHIND_DATA), window: bytes = WINDOW) -> bytes:
    return bytes(decode(Coder.LZMA, coded, length, "column", LIMITS, window))


def test_lzma_may_refer_to_what_is_known() -> None:
    assert behind(BEHIND) == BEHIND_DATA
    assert behind(b"\2\0\2new\0", 3) == b"new"
    long = noise(3, 70_000)
    assert behind(b"\2\0\2new\0", 3, long) == b"new"
    coded = lzma_writer.compress_behind(long[100:60_000] + b"+" + long[65_000:69_000], long)
    if coded is not None:  # where the system has liblzma
        assert len(coded) < 100
        assert behind(coded, 63_901, long) == long[100:60_000] + b"+" + long[65_000:69_000]


@pytest.mark.parametrize(
    ("coded", "length"),
    [
        (BEHIND[:-1], len(BEHIND_DATA)),
        (BEHIND + b"\0", len(BEHIND_DATA)),
        (BEHIND, len(BEHIND_DATA) - 1),
        (BEHIND, len(BEHIND_DATA) + 1),
        (b"\0", 1),
        (b"", 1),
        (b"\3\0\2new\0", 3),
        (GOOD, len(DATA)),
    ],
)
def test_bad_lzma_streams_behind_a_window(coded: bytes, length: int) -> None:
    with pytest.raises(CorruptError, match="LZMA"):
        behind(coded, length)


def test_another_window_gives_other_bytes() -> None:
    assert behind(BEHIND, window=WINDOW[::-1]) != BEHIND_DATA


def test_without_liblzma_nothing_refers_to_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzma_writer, "_library", lambda: None)
    assert lzma_writer.compress_behind(DATA, WINDOW) is None


def test_lzma_without_end_marker_and_truncated() -> None:
    for end in range(len(GOOD)):
        with pytest.raises(CorruptError):
            unlzma(GOOD[:end])


def test_an_lzma_bomb_ends_at_the_expected_length() -> None:
    coded = lzma_writer.compress(bytes(1 << 24))
    tracemalloc.start()
    with pytest.raises(CorruptError):
        unlzma(coded, 1 << 10)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("length", [4, 6])
def test_raw_has_the_exact_length(length: int) -> None:
    assert decode(Coder.RAW, b"12345", 5, "thing", LIMITS) == b"12345"
    with pytest.raises(CorruptError, match=f"found 5 raw bytes, expected {length}"):
        decode(Coder.RAW, b"12345", length, "thing", LIMITS)


@pytest.mark.parametrize("coder", [Coder.ZSTD, Coder.LZMA])
def test_a_coder_that_the_manifest_does_not_declare_is_not_reached(
    coder: Coder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_decode_zstd", None)
    monkeypatch.setattr(codec, "_decode_lzma", None)
    with pytest.raises(CorruptError, match=f"needs coder {coder.name}, which the manifest does not declare"):
        decode(coder, b"x", 1, "thing", CodecLimits(frozenset({Coder.RAW}), 0))
    with pytest.raises(CorruptError, match="expected RAW"):
        decode(coder, b"", 0, "thing", LIMITS)


def column(coder: int, length: int, coded: bytes, coded_length: int | None = None) -> bytes:
    tag = encode_varint(length << 2 | coder)
    return tag + (b"" if coder == 0 else encode_varint(len(coded) if coded_length is None else coded_length)) + coded


def take(raw: bytes, most: int = len(DATA)) -> bytes:
    cursor = Cursor(raw, "thing")
    found = bytes(read_column(cursor, "thing", max_decoded_bytes=most, limits=LIMITS))
    cursor.end()
    return found


def test_columns_of_every_coder() -> None:
    assert take(column(0, len(DATA), DATA)) == DATA
    assert take(column(1, len(DATA), zstd())) == DATA
    assert take(column(2, len(DATA), GOOD)) == DATA
    assert take(column(0, 0, b"")) == b""


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (column(3, 5, b"12345"), "found coder 3, expected 0 to 2"),
        (column(0, len(DATA) + 1, DATA + b"x"), "expected at most 5000"),
        (column(1, 2**60, zstd()), "expected at most 5000"),
        (column(0, 6, b"12345"), "truncated"),
        (column(1, len(DATA), zstd(), len(zstd()) + 1), "truncated"),
        (column(1, len(DATA), zstd(), 2**62), "truncated"),
        (column(1, len(DATA), zstd(), len(zstd()) - 1), "thing"),
    ],
    ids=["coder", "long", "huge", "raw cut", "zstd cut", "zstd huge", "zstd short"],
)
def test_bad_columns(raw: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        take(raw)


def test_three_columns_share_one_cap() -> None:
    raw = column(0, 3, b"abc") + column(0, 2, b"de") + column(0, 1, b"f")
    assert [bytes(part) for part in read_columns(Cursor(raw, "thing"), "thing", 6, LIMITS)] == [b"abc", b"de", b"f"]
    with pytest.raises(CorruptError, match="column of 1 bytes, expected at most 0"):
        read_columns(Cursor(raw, "thing"), "thing", 5, LIMITS)
    with pytest.raises(CorruptError, match="left over"):
        read_columns(Cursor(raw + b"\0", "thing"), "thing", 6, LIMITS)
