"""The synthesiser: limits, layout, known edits, the same bytes everywhere."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import bsdiff4
import pytest

from packager.model.errors import ConfigError, SpaceError
from sample_images.modules import KnownEdit
from sample_images.synthesiser import (
    INSTRUCTION_SETS,
    MAX_FLASH_BYTES,
    MAX_VERSION,
    MIN_FLASH_BYTES,
    FirmwareSpec,
    symbols,
    synthesise,
    synthesise_bytes,
    with_edit,
    write_firmware,
)

THUMB = FirmwareSpec("thumb2", 64 << 10, seed=7, version=2)
A64 = FirmwareSpec("aarch64", 64 << 10, seed=7, version=2)
BOTH = pytest.mark.parametrize("spec", [THUMB, A64], ids=["thumb2", "aarch64"])

PINNED = {
    "thumb2": "fbb3168e5244d3c187ecc4dc4c01d814e38ac9c3ec01f39afc2c07539cac9f4c",
    "aarch64": "01a84e2634707951d27ffbfe9e664a67d14219b0198761722668ffc09d7f3abb",
}


@BOTH
def test_the_same_recipe_gives_the_bytes_it_always_gave(spec: FirmwareSpec) -> None:
    """If this fails, count SYNTHESISER_REVISION up: images made before must be made again."""
    assert hashlib.sha256(synthesise_bytes(spec)).hexdigest() == PINNED[spec.isa]


@BOTH
def test_the_bytes_do_not_depend_on_the_hash_seed(spec: FirmwareSpec) -> None:
    program = (
        "import hashlib; from sample_images.synthesiser import *;"
        f"print(hashlib.sha256(synthesise_bytes(FirmwareSpec({spec.isa!r}, {spec.flash_bytes}, 7, 2))).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == PINNED[spec.isa]


@pytest.mark.parametrize("isa", list(INSTRUCTION_SETS))
@pytest.mark.parametrize("flash_bytes", [MIN_FLASH_BYTES, MIN_FLASH_BYTES + 1, 50_003, 1 << 18])
def test_the_image_is_as_long_as_the_flash_and_ends_with_its_checksum(isa: str, flash_bytes: int) -> None:
    image = synthesise_bytes(FirmwareSpec(isa, flash_bytes, seed=1, version=3))
    assert len(image) == flash_bytes
    assert int.from_bytes(image[-4:], "little") == zlib.crc32(image[:-4])


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("flash_bytes", MIN_FLASH_BYTES, MIN_FLASH_BYTES - 1),
        ("flash_bytes", MAX_FLASH_BYTES, MAX_FLASH_BYTES + 1),
        ("version", 0, -1),
        ("version", MAX_VERSION, MAX_VERSION + 1),
        ("fill_percent", 10, 9),
        ("fill_percent", 80, 81),
        ("change_percent", 0, -1),
        ("change_percent", 100, 101),
        ("isa", "aarch64", "z80"),
    ],
)
def test_limits_from_both_sides(field: str, good: int | str, bad: int | str) -> None:
    replace(THUMB, **{field: good})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"{field}: found '?{bad}"):
        replace(THUMB, **{field: bad})  # type: ignore[arg-type]


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        FirmwareSpec("z80", 1, 1, -1, 0, 101)
    assert len(caught.value.problems) == 5


@BOTH
def test_the_fill_is_about_what_was_asked_for(spec: FirmwareSpec) -> None:
    for percent in (20, 60):
        image = synthesise_bytes(replace(spec, fill_percent=percent, flash_bytes=1 << 20))
        assert image.count(b"\xff" * 4096) * 4096 >= (percent - 5) * len(image) // 100


@BOTH
def test_seeds_give_unrelated_firmware_and_versions_related_firmware(spec: FirmwareSpec) -> None:
    image = synthesise_bytes(spec)
    other = synthesise_bytes(replace(spec, seed=8))
    following = synthesise_bytes(replace(spec, version=3))
    compressed = len(zlib.compress(following, 9))
    assert image != following
    assert delta_bytes(image, following) < compressed // 3
    assert delta_bytes(image, other) > compressed // 2


def delta_bytes(old: bytes, new: bytes) -> int:
    """Length of a patch from `old` to `new`."""
    return len(bsdiff4.diff(old, new))


@BOTH
def test_one_inserted_instruction_moves_every_function_behind_it_by_four_bytes(spec: FirmwareSpec) -> None:
    before = {function.name: function for function in symbols(spec)}
    after = {function.name: function for function in symbols(with_edit(spec, KnownEdit.INSERT_INSTRUCTION))}
    first, *rest = before
    assert list(after) == list(before)
    assert after[first].address == before[first].address
    assert after[first].code_bytes == before[first].code_bytes + 4
    assert {after[name].address - before[name].address for name in rest} == {4}


@BOTH
def test_one_inserted_instruction_changes_calls_and_pointers_all_over_the_image(spec: FirmwareSpec) -> None:
    before, after = synthesise_bytes(spec), synthesise_bytes(with_edit(spec, KnownEdit.INSERT_INSTRUCTION))
    base = INSTRUCTION_SETS[spec.isa].base_address
    end = max(function.address + function.length_bytes for function in symbols(spec)) - base
    start = next(iter(symbols(spec))).address - base + 64
    shifted = sum(x != y for x, y in zip(before[start:end], after[start + 4 : end + 4], strict=True))
    assert 0 < shifted < (end - start) // 10  # only what carries an address differs, once the shift is taken out
    vectors = sum(x != y for x, y in zip(before[:448], after[:448], strict=True))
    assert vectors > 0


@BOTH
def test_functions_can_be_inserted_and_removed(spec: FirmwareSpec) -> None:
    before = [function.name for function in symbols(spec)]
    inserted = [function.name for function in symbols(with_edit(spec, KnownEdit.INSERT_FUNCTION))]
    removed = [function.name for function in symbols(with_edit(spec, KnownEdit.REMOVE_FUNCTION))]
    assert inserted[1:] == before
    assert removed == before[1:]
    assert len({synthesise_bytes(with_edit(spec, edit)) for edit in KnownEdit}) == len(KnownEdit)


@BOTH
def test_a_calibration_change_moves_nothing(spec: FirmwareSpec) -> None:
    before, after = synthesise_bytes(spec), synthesise_bytes(with_edit(spec, KnownEdit.CHANGE_CALIBRATION))
    places = [index for index, (x, y) in enumerate(zip(before, after, strict=True)) if x != y]
    assert 0 < len(places) <= 24 + 4
    assert min(places) >= len(before) - 4 - len(before) // 8 - 4


@BOTH
def test_each_version_edits_inserts_and_moves_functions(spec: FirmwareSpec) -> None:
    names: list[set[str]] = []
    moved = 0
    places: dict[str, int] = {}
    for version in range(10):
        now = {function.name: function.address for function in symbols(replace(spec, version=version))}
        moved += sum(places.get(name, address) != address for name, address in now.items())
        names.append(set(now))
        places = now
    assert any(later - earlier for earlier, later in pairwise(names))
    assert any(earlier - later for earlier, later in pairwise(names))
    assert moved > len(places)


@BOTH
def test_many_versions_stay_within_the_flash(spec: FirmwareSpec) -> None:
    assert len(synthesise_bytes(replace(spec, version=MAX_VERSION, flash_bytes=32 << 10))) == 32 << 10


@BOTH
def test_an_outgrown_flash_is_an_error_and_leaves_no_file(
    spec: FirmwareSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sample_images.synthesiser._RODATA_SHARE", -0.5)
    with pytest.raises(ConfigError, match="has outgrown its flash at module") as caught:
        write_firmware(spec, tmp_path / "image.bin")
    assert "fill_percent" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_written_is_a_space_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpaceError, match="can't be written"):
        write_firmware(THUMB, tmp_path / "file" / "image.bin")


def test_memory_does_not_grow_with_the_flash() -> None:
    peaks = []
    for mib in (3, 6):
        tracemalloc.start()
        length = sum(map(len, synthesise(replace(A64, flash_bytes=mib << 20))))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert length == mib << 20
    assert peaks[1] < peaks[0] + (1 << 20)


@pytest.mark.long
@pytest.mark.parametrize("isa", list(INSTRUCTION_SETS))
def test_a_gibibyte_is_made_in_bounded_pieces(isa: str) -> None:
    lengths = [len(chunk) for chunk in synthesise(FirmwareSpec(isa, MAX_FLASH_BYTES, seed=1, version=2))]
    assert sum(lengths) == MAX_FLASH_BYTES
    assert max(lengths) < 2 << 20
