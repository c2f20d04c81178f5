"""Limits of an ECU, and the grid that follows from them."""

from typing import Any

import pytest

from packager.vehicle.profile import (
    KIB,
    MIB,
    Coder,
    UpdateProfile,
    check_block_bytes,
    grid_block_bytes,
    read_profile,
)
from packager.vehicle.table import Table


@pytest.mark.parametrize(("block_bytes", "log2"), [(4 * KIB, 12), (MIB, 20), (4 * MIB, 22)])
def test_block_sizes_within_the_limits(block_bytes: int, log2: int) -> None:
    assert check_block_bytes(block_bytes) == log2
    assert UpdateProfile(block_bytes=block_bytes).block_bytes == block_bytes


@pytest.mark.parametrize("block_bytes", [0, 1, 2 * KIB, 4 * KIB - 1, 4 * KIB + 1, 6 * KIB, 8 * MIB, -4096])
def test_block_sizes_beyond_the_limits(block_bytes: int) -> None:
    with pytest.raises(ValueError, match="power of two from 4 KiB to 4 MiB"):
        check_block_bytes(block_bytes)
    with pytest.raises(ValueError, match="power of two"):
        UpdateProfile(block_bytes=block_bytes)


@pytest.mark.parametrize(
    ("image_bytes", "ram_bytes", "expected"),
    [
        (1, 256 * MIB, 4 * KIB),
        (4 * KIB, 256 * MIB, 4 * KIB),
        (4 * KIB + 1, 256 * MIB, 8 * KIB),
        (MIB // 2, 256 * MIB, MIB // 2),
        (MIB // 2 + 1, 256 * MIB, MIB),
        (1 << 30, 256 * MIB, MIB),
        (1 << 30, 8 * MIB, MIB),
        (1 << 30, 8 * MIB - 2, MIB // 2),
        (1 << 30, 64 * KIB, 8 * KIB),
        (1 << 30, 16 * KIB, 4 * KIB),
    ],
)
def test_the_grid_follows_from_image_size_and_memory(image_bytes: int, ram_bytes: int, expected: int) -> None:
    assert grid_block_bytes(image_bytes, UpdateProfile(ram_bytes=ram_bytes)) == expected


def test_a_fixed_block_size_wins() -> None:
    assert grid_block_bytes(1, UpdateProfile(block_bytes=MIB)) == MIB


def read(**values: Any) -> tuple[UpdateProfile, list[str]]:
    problems: list[str] = []
    return read_profile(Table({"ram_kib": 64, "flash_kib": 512, **values}, "ecu.profile", problems)), problems


def test_a_profile_is_read() -> None:
    profile, problems = read(
        spare_slot=False, coders=["lzma", "adaptive"], block_kib=8, scratch_kib=16, predictors=False
    )
    assert problems == []
    assert profile == UpdateProfile(
        64 * KIB,
        512 * KIB,
        spare_slot=False,
        coders=frozenset({Coder.RAW, Coder.LZMA, Coder.ADAPTIVE}),
        block_bytes=8 * KIB,
        scratch_bytes=16 * KIB,
        predictors=False,
    )


def test_defaults() -> None:
    profile, problems = read()
    assert problems == []
    assert (profile.spare_slot, profile.block_bytes, profile.scratch_bytes) == (True, None, 0)
    assert profile.predictors
    assert profile.coders == {Coder.RAW, Coder.ZSTD}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ram_kib": 15}, "ram_kib: found 15, expected 16 to"),
        ({"ram_kib": (1 << 30) + 1}, "ram_kib"),
        ({"flash_kib": 0}, "flash_kib"),
        ({"ram_kib": "64"}, "ram_kib: found '64'"),
        ({"ram_kib": True}, "ram_kib: found True"),
        ({"coders": ["brotli"]}, "coders: found 'brotli', expected zstd, lzma or adaptive"),
        ({"coders": ["zstd", "zstd"]}, "coders"),
        ({"block_kib": 3}, "block_kib: block size"),
        ({"block_kib": 8192}, "block_kib"),
        ({"scratch_kib": -1}, "scratch_kib"),
        ({"spare_slot": 1}, "spare_slot"),
        ({"predictors": 0}, "predictors"),
        ({"colour": "red"}, "colour is unknown"),
    ],
)
def test_problems_of_a_profile(values: dict[str, Any], problem: str) -> None:
    _, problems = read(**values)
    assert len(problems) == 1
    assert problem in problems[0]
    assert problems[0].startswith("ecu.profile: ")


@pytest.mark.parametrize("ram_kib", [16, 1 << 30])
def test_memory_limits_from_inside(ram_kib: int) -> None:
    profile, problems = read(ram_kib=ram_kib)
    assert (profile.ram_bytes, problems) == (ram_kib * KIB, [])
