"""Heads: framing, order of checks, profile."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from packager.bundle.writer import encode_manifest
from packager.vehicle.core import head as head_module
from packager.vehicle.core.head import (
    MAX_HEAD_BYTES,
    MAX_SECTIONS,
    MIN_HEAD_BYTES,
    Feature,
    Head,
    features_of,
    head_length_bytes,
    read_head,
    required_memory_bytes,
)
from packager.vehicle.core.manifest import Manifest
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.profile import Coder, UpdateProfile
from tests.sample_bundles import (
    BLOCK,
    PROFILE,
    RAW,
    Sample,
    delta_mixed,
    delta_one_block,
    full_mixed,
    make,
    noise,
    reassemble,
    samples,
    sign,
    window_one_block,
)

ONE = make("one", None, noise(30, 100), [RAW])
HEAD = ONE.data[: ONE.head_bytes]


def read(head: bytes, profile: UpdateProfile = PROFILE) -> Head:
    return read_head(head, sign(head), profile)


def seal(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_it_says_how_long_everything_is(sample: Sample) -> None:
    head = sample.head
    assert head.length_bytes == sample.head_bytes == head_length_bytes(sample.data[:112])
    assert head.bundle_bytes == len(sample.data)
    assert head.digest == sample.signed.digest
    assert head.manifest.memory_bytes == required_memory_bytes(head.manifest, head.length_bytes)


def test_only_the_signed_bytes_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(head_module, "read_sections", lambda view: reached.append("sections"))
    for wrong in (HEAD[:-1], HEAD + b"\0", b"", HEAD[:40] + b"?" + HEAD[41:]):
        with pytest.raises(CorruptError, match="signed"):
            read_head(wrong, ONE.signed, PROFILE)
    assert reached == []


@pytest.mark.parametrize("length", [0, 1, MIN_HEAD_BYTES - 1, MAX_HEAD_BYTES + 1])
def test_lengths_that_no_head_has(length: int) -> None:
    with pytest.raises(IncompatibleError, match="expected 48 to 16777216"):
        read(bytes(length))


@pytest.mark.parametrize("length", [MIN_HEAD_BYTES, MAX_HEAD_BYTES])
def test_lengths_that_a_head_may_have_are_looked_at(length: int) -> None:
    with pytest.raises(CorruptError, match="this is not a bundle"):
        read(bytes(length))


def change(at: int, value: bytes) -> bytes:
    return seal(HEAD[:at] + value + HEAD[at + len(value) : -32])


@pytest.mark.parametrize(
    ("at", "value", "error", "message"),
    [
        (0, b"\x88", CorruptError, "not a bundle"),
        (0, b"BSDIFF40", CorruptError, "not a bundle"),
        (4, b"\0\0", IncompatibleError, "format version 0"),
        (4, b"\2\0", IncompatibleError, "format version 2"),
        (4, b"\1\1", IncompatibleError, "format version 257"),
        (6, b"\0\0", CorruptError, "0 sections"),
        (6, bytes((MAX_SECTIONS + 1, 0)), CorruptError, "17 sections"),
        (8, b"\1\0\0\0", CorruptError, "as the manifest says"),
        (8, b"\x08\0\0\0", CorruptError, "as the manifest says"),
        (8, b"\x40\0\0\0", IncompatibleError, "needs a newer reader"),
        (8, b"\0\0\0\x80", IncompatibleError, "required features 0x80000000"),
        (16, b"\0", CorruptError, "section 0"),
        (17, b"\0", CorruptError, "not marked critical"),
        (17, b"\3", CorruptError, "flags 0x3"),
        (22, b"\1", CorruptError, "section 1 with flags 0x1 after section 1"),
        (22, b"\3", CorruptError, "section INDEX is missing"),
        (22, b"\x07", IncompatibleError, "critical section 7 is unknown"),
        (18, b"\0\0\0\0", CorruptError, "left over"),
        (18, b"\xff\xff\xff\xff", CorruptError, "truncated"),
        (18, b"\0\0\0\x80", CorruptError, "truncated"),
    ],
)
def test_framing_that_breaks_a_rule(at: int, value: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(change(at, value))


@pytest.mark.parametrize("bit", range(6, 32))
def test_every_unknown_required_feature_is_refused(bit: int) -> None:
    with pytest.raises(IncompatibleError, match="required features"):
        read(change(8, (1 << bit).to_bytes(4, "little")))


@pytest.mark.parametrize("bit", range(32))
def test_every_unknown_optional_feature_is_ignored(bit: int) -> None:
    assert read(change(12, (1 << bit).to_bytes(4, "little"))).manifest == ONE.head.manifest


def test_optional_sections_are_skipped_and_critical_ones_are_not() -> None:
    assert read(reassemble(HEAD, extra=[(9, 0, b"hint"), (255, 0, b"")])).manifest.new == ONE.head.manifest.new
    with pytest.raises(IncompatibleError, match="critical section 9 is unknown"):
        read(reassemble(HEAD, extra=[(9, 1, b"hint")]))


def test_sixteen_sections_and_no_more() -> None:
    extra = [(number, 0, b"") for number in range(10, 10 + MAX_SECTIONS - 2)]
    assert read(reassemble(HEAD, extra=extra))
    with pytest.raises(CorruptError, match="17 sections"):
        read(reassemble(HEAD, extra=[*extra, (99, 0, b"")]))


def test_sections_that_are_not_wanted() -> None:
    with pytest.raises(CorruptError, match="segment map for 0 segments"):
        read(reassemble(HEAD, extra=[(3, 1, b"\0")]))
    with pytest.raises(CorruptError, match="predictor section present"):
        read(reassemble(HEAD, extra=[(4, 1, b"x")]))


@pytest.mark.parametrize("sample", [delta_mixed(), delta_one_block()], ids=lambda sample: sample.name)
def test_signed_and_cut_short_at_every_byte(sample: Sample) -> None:
    head = sample.data[: sample.head_bytes]
    for end in range(len(head) - 32):
        for cut in (head[:end], seal(head[:end])):
            with pytest.raises((CorruptError, IncompatibleError)):
                read(cut)


def test_its_own_hash_finds_accidental_damage() -> None:
    damaged = HEAD[:-1] + bytes((HEAD[-1] ^ 1,))
    with pytest.raises(CorruptError, match="its own SHA-256"):
        read(damaged)


def test_the_length_of_a_loose_head_is_bounded() -> None:
    assert head_length_bytes(HEAD) == len(HEAD)
    longest = MAX_HEAD_BYTES - 16 - 12 - 32 - int.from_bytes(HEAD[24:28], "little")
    assert head_length_bytes(HEAD[:18] + longest.to_bytes(4, "little") + HEAD[22:]) == MAX_HEAD_BYTES
    with pytest.raises(CorruptError, match="expected at most 16777216"):
        head_length_bytes(HEAD[:18] + (longest + 1).to_bytes(4, "little") + HEAD[22:])
    with pytest.raises(CorruptError, match="truncated"):
        head_length_bytes(HEAD[:20])


def with_manifest(sample: Sample, alter: Callable[[Manifest], Manifest]) -> bytes:
    head = sample.data[: sample.head_bytes]
    count = head[6]
    at = 16 + 6 * count
    length = int.from_bytes(head[18:22], "little")
    section = encode_manifest(alter(sample.head.manifest))
    table = head[16:18] + len(section).to_bytes(4, "little") + head[22:at]
    return seal(head[:16] + table + section + head[at + length : -32])


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("sample", samples()[:-1], ids=lambda sample: sample.name)
def test_memory_is_stated_exactly(sample: Sample, change: int) -> None:
    head = with_manifest(sample, lambda m: replace(m, memory_bytes=m.memory_bytes + change))
    with pytest.raises(CorruptError, match="bytes of memory, expected"):
        read(head)


def test_features_follow_from_the_manifest() -> None:
    assert features_of(full_mixed().head.manifest) == Feature.ZSTD | Feature.LZMA
    assert features_of(delta_mixed().head.manifest) == Feature.ZSTD | Feature.LZMA | Feature.WINDOW
    assert features_of(delta_one_block().head.manifest) == Feature(0)
    in_place = replace(delta_one_block().head.manifest, in_place=True)
    assert features_of(in_place) == Feature.IN_PLACE


@pytest.mark.parametrize(
    ("scratch_bytes", "message"), [(0, "0 bytes of scratch, expected 3008"), (3009, "needs 3009 bytes of scratch")]
)
def test_in_place_is_a_feature_and_needs_scratch_for_a_block(scratch_bytes: int, message: str) -> None:
    sample = delta_one_block()
    before = sample.head.manifest
    grown = replace(before, in_place=True, scratch_bytes=scratch_bytes)
    more_bytes = len(encode_manifest(grown)) - len(encode_manifest(before))
    head = with_manifest(sample, lambda _: replace(grown, memory_bytes=before.memory_bytes + more_bytes))
    in_place = seal(head[:8] + b"\x08\0\0\0" + head[12:-32])
    with pytest.raises((CorruptError, IncompatibleError), match=message):
        read(in_place)
    with pytest.raises(CorruptError, match=r"features|scratch"):
        read(head, replace(PROFILE, scratch_bytes=scratch_bytes))


MIXED = delta_mixed()
NEEDS = MIXED.head.manifest


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"ram_bytes": NEEDS.memory_bytes}, {"ram_bytes": NEEDS.memory_bytes - 1}, "bytes of memory, the ECU has"),
        ({"flash_bytes": len(MIXED.new)}, {"flash_bytes": len(MIXED.new) - 1}, f"new image of {len(MIXED.new)}"),
        ({"block_bytes": BLOCK}, {"block_bytes": 2 * BLOCK}, "blocks of 4096 bytes, the ECU takes 8192"),
        ({}, {"coders": frozenset({Coder.RAW, Coder.ZSTD})}, "needs decoder LZMA"),
        ({}, {"coders": frozenset()}, "needs decoder LZMA, ZSTD"),
        ({}, {"spare_slot": False}, "needs a spare slot"),
    ],
)
def test_what_the_ecu_lacks(good: dict[str, Any], bad: dict[str, Any], message: str) -> None:
    assert read_head(MIXED.data[: MIXED.head_bytes], MIXED.signed, replace(PROFILE, **good))
    with pytest.raises(IncompatibleError, match=message):
        read_head(MIXED.data[: MIXED.head_bytes], MIXED.signed, replace(PROFILE, **bad))


def test_the_old_image_must_fit_the_flash_too() -> None:
    sample = window_one_block()
    assert sample.old is not None
    assert len(sample.old) > len(sample.new)
    assert read_head(sample.data[: sample.head_bytes], sample.signed, replace(PROFILE, flash_bytes=len(sample.old)))
    with pytest.raises(IncompatibleError, match=f"old image of {len(sample.old)}"):
        read_head(sample.data[: sample.head_bytes], sample.signed, replace(PROFILE, flash_bytes=len(sample.old) - 1))


def test_a_full_bundle_needs_no_spare_slot() -> None:
    sample = full_mixed()
    assert read_head(sample.data[: sample.head_bytes], sample.signed, replace(PROFILE, spare_slot=False))


def test_all_that_is_lacking_is_told_at_once() -> None:
    poor = UpdateProfile(ram_bytes=1, flash_bytes=1, coders=frozenset())
    with pytest.raises(IncompatibleError, match=r"memory.*slot.*decoder"):
        read_head(MIXED.data[: MIXED.head_bytes], MIXED.signed, poor)


def test_caps_are_compared_before_index_and_map_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("read beyond the caps")

    monkeypatch.setattr(head_module, "parse_index", reached)
    monkeypatch.setattr(head_module, "parse_segments", reached)
    with pytest.raises(IncompatibleError, match="memory"):
        read_head(MIXED.data[: MIXED.head_bytes], MIXED.signed, UpdateProfile(ram_bytes=1 << 14))
