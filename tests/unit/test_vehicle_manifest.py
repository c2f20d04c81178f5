"""Manifests: canonical, and every limit from both sides."""

from dataclasses import replace
from typing import Any

import pytest

from packager.bundle.writer import encode_manifest
from packager.vehicle.core.manifest import (
    MAX_CAP_BYTES,
    MAX_HARDWARE_IDS,
    MAX_IMAGE_BYTES,
    MAX_RELEASE_COUNTER,
    MAX_SEGMENTS,
    MAX_VALUES,
    Kind,
    Manifest,
    Op,
    parse_manifest,
)
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder

IMAGE = ImageId(5000, Digest.of(b"new"))
FULL = Manifest(
    new=IMAGE,
    old=None,
    block_log2=12,
    in_place=False,
    ops=frozenset({Op.RAW, Op.FILL}),
    coders=frozenset({Coder.RAW}),
    window_log2=0,
    max_blob_bytes=4096,
    max_source_bytes=0,
    max_decoded_bytes=0,
    segment_count=0,
    memory_bytes=12345,
    scratch_bytes=0,
    release_counter=7,
    version="7.0.45",
    hardware_ids=("a", "b"),
)
DELTA = replace(
    FULL, old=ImageId(4000, Digest.of(b"old")), ops=frozenset({Op.COPY, Op.DELTA}), max_source_bytes=9, segment_count=2
)
PREDICTED = replace(DELTA, ops=frozenset({Op.PREDICTED}))
ZSTD = replace(FULL, coders=frozenset({Coder.RAW, Coder.ZSTD}), window_log2=20)


def parse(manifest: Manifest) -> Manifest:
    return parse_manifest(memoryview(encode_manifest(manifest)))


@pytest.mark.parametrize("manifest", [FULL, DELTA, ZSTD, replace(FULL, version="", hardware_ids=())])
def test_it_comes_back(manifest: Manifest) -> None:
    assert parse(manifest) == manifest


def test_what_follows_from_it() -> None:
    assert (FULL.kind, DELTA.kind) == (Kind.FULL, Kind.DELTA)
    assert (FULL.block_bytes, FULL.block_count, FULL.max_output_bytes) == (4096, 2, 4096)
    assert (FULL.block_range(0), FULL.block_range(1)) == ((0, 4096), (4096, 5000))
    assert replace(FULL, new=ImageId(8192, IMAGE.digest)).block_count == 2
    assert replace(FULL, new=ImageId(8193, IMAGE.digest)).block_count == 3
    assert replace(FULL, new=ImageId(3, IMAGE.digest)).max_output_bytes == 3
    assert (FULL.old_length_bytes, DELTA.old_length_bytes) == (0, 4000)
    assert (FULL.limits.window_bytes, ZSTD.limits.window_bytes) == (0, 1 << 20)


IDS = tuple(f"id{index:02}" for index in range(MAX_HARDWARE_IDS + 1))


@pytest.mark.parametrize(
    ("base", "field", "good", "bad", "message"),
    [
        (FULL, "block_log2", 12, 11, "block size"),
        (FULL, "block_log2", 22, 23, "block size"),
        (FULL, "new", ImageId(1, IMAGE.digest), ImageId(0, IMAGE.digest), "new image of 0 bytes"),
        (FULL, "new", ImageId(MAX_IMAGE_BYTES, IMAGE.digest), ImageId(MAX_IMAGE_BYTES + 1, IMAGE.digest), "new image"),
        (DELTA, "old", ImageId(1, IMAGE.digest), ImageId(0, IMAGE.digest), "old image of 0 bytes"),
        (DELTA, "old", ImageId(MAX_IMAGE_BYTES, IMAGE.digest), ImageId(MAX_IMAGE_BYTES + 1, IMAGE.digest), "old image"),
        (FULL, "ops", frozenset({Op.RAW}), frozenset({Op.COPY}), "full bundle that reads"),
        (FULL, "ops", frozenset({Op.RAW}), frozenset({Op.WINDOW}), "full bundle that reads"),
        (FULL, "segment_count", 0, 1, "full bundle that reads"),
        (FULL, "max_source_bytes", 0, 1, "full bundle that reads"),
        (FULL, "in_place", False, True, "full bundle that reads"),
        (FULL, "coders", frozenset({Coder.RAW, Coder.LZMA}), frozenset({Coder.LZMA}), "RAW is missing"),
        (
            replace(DELTA, ops=frozenset({Op.PREDICTED}), coders=frozenset({Coder.RAW, Coder.ADAPTIVE})),
            "ops",
            frozenset({Op.PREDICTED}),
            frozenset({Op.DELTA}),
            "ADAPTIVE without predicted",
        ),
        (ZSTD, "window_log2", 1, 0, "zstd window"),
        (ZSTD, "window_log2", 27, 28, "zstd window"),
        (FULL, "window_log2", 0, 1, "zstd window"),
        (FULL, "window_log2", 0, 128, "zstd window"),
        (FULL, "scratch_bytes", 0, 1, "scratch without"),
        (FULL, "max_blob_bytes", MAX_CAP_BYTES, MAX_CAP_BYTES + 1, "longest blob"),
        (DELTA, "max_source_bytes", MAX_CAP_BYTES, MAX_CAP_BYTES + 1, "longest old part"),
        (FULL, "max_decoded_bytes", MAX_CAP_BYTES, MAX_CAP_BYTES + 1, "decoded columns"),
        (replace(DELTA, in_place=True), "scratch_bytes", MAX_CAP_BYTES, MAX_CAP_BYTES + 1, "scratch of"),
        (DELTA, "segment_count", MAX_SEGMENTS, MAX_SEGMENTS + 1, "number of segments"),
        (PREDICTED, "value_count", MAX_VALUES, MAX_VALUES + 1, "number of values"),
        (FULL, "release_counter", MAX_RELEASE_COUNTER, MAX_RELEASE_COUNTER + 1, "release counter"),
        (FULL, "version", "v" * 64, "v" * 65, "path-safe names"),
        (FULL, "version", "1", "../1", "path-safe names"),
        (FULL, "version", "1", "a\u200fb", "path-safe names"),
        (FULL, "version", "1", "a\0b", "path-safe names"),
        (FULL, "version", "1", "a\\b", "path-safe names"),
        (FULL, "version", "1", "C:", "path-safe names"),
        (FULL, "hardware_ids", IDS[:-1], IDS, "hardware ids"),
        (FULL, "hardware_ids", ("a", "b"), ("b", "a"), "hardware ids"),
        (FULL, "hardware_ids", ("a",), ("a", "a"), "hardware ids"),
        (FULL, "hardware_ids", ("a",), ("",), "path-safe names"),
        (FULL, "hardware_ids", ("a",), ("a/b",), "path-safe names"),
    ],
)
def test_limits_from_both_sides(base: Manifest, field: str, good: Any, bad: Any, message: str) -> None:
    assert parse(replace(base, **{field: good}))
    with pytest.raises(CorruptError, match=message):
        parse(replace(base, **{field: bad}))


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 2), (2, 2), (2, 0x80), (4, 0x80), (5, 1), (6, 0x11), (7, 1)],
    ids=["kind", "flag 1", "flag 7", "operation 7", "operation 8", "coder 4", "coder 8"],
)
def test_what_this_reader_does_not_know_is_incompatible(at: int, value: int) -> None:
    raw = bytearray(encode_manifest(FULL))
    raw[at] = value
    with pytest.raises(IncompatibleError, match="needs a newer reader"):
        parse_manifest(memoryview(raw))


def test_cut_short_at_every_byte_and_left_over() -> None:
    raw = encode_manifest(DELTA)
    for end in range(len(raw)):
        with pytest.raises(CorruptError, match="manifest"):
            parse_manifest(memoryview(raw)[:end])
    with pytest.raises(CorruptError, match="1 bytes left over"):
        parse_manifest(memoryview(raw + b"\0"))


def test_every_changed_byte_is_refused_or_another_manifest() -> None:
    """Canonical: no two byte forms mean the same."""
    raw = encode_manifest(DELTA)
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            try:
                manifest = parse_manifest(memoryview(changed))
            except (CorruptError, IncompatibleError):
                continue
            assert manifest != DELTA
            assert encode_manifest(manifest) == changed
