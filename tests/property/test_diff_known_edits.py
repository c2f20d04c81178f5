"""Generated firmware with one known edit: what the packager makes of both images is applied to the new one, and an insertion is cheap."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff.engine import DEFAULT_EFFORT, Engine, align, dump, level_of, load
from packager.vehicle.instructions import InstructionSet
from packager.vehicle.profile import DEFAULT_PROFILE, KIB, Coder, UpdateProfile
from sample_images.modules import KnownEdit
from sample_images.synthesiser import FirmwareSpec, synthesise_bytes, with_edit
from tests import needs
from tests.property.test_vehicle_two_readers import apply
from tests.sample_bundles import sign

MIB = 1 << 20
INSERTION_BYTES = 2 * KIB
SETS = {"thumb2": InstructionSet.THUMB2, "aarch64": InstructionSet.AARCH64}


def images(isa: str, flash_bytes: int, edit: KnownEdit, version: int = 0) -> tuple[bytes, bytes]:
    old = FirmwareSpec(isa, flash_bytes, 5)
    return synthesise_bytes(old), synthesise_bytes(with_edit(FirmwareSpec(isa, flash_bytes, 5, version), edit))


def bundle(old: bytes, new: bytes, profile: UpdateProfile = DEFAULT_PROFILE, effort: int = DEFAULT_EFFORT) -> bytes:
    """Make a bundle, apply it, and return it."""
    written = encode(old, new, align(old, new, effort=effort), profile, Label(), level_of(effort)).written
    assert apply(written.data, old, sign(written.data[: written.head_bytes]), profile) == new
    return written.data


@needs.MATCHER
@pytest.mark.parametrize("isa", ["thumb2", "aarch64"])
def test_an_insertion_at_the_start_of_1_mib_costs_less_than_2_kib(isa: str) -> None:
    old, new = images(isa, MIB, KnownEdit.INSERT_INSTRUCTION)
    alignment = align(old, new)
    assert alignment.prediction is not None
    assert alignment.prediction.modes[0].instruction_set is SETS[isa]
    assert len(bundle(old, new)) < INSERTION_BYTES


@needs.MATCHER
@pytest.mark.parametrize("edit", [edit for edit in KnownEdit if edit is not KnownEdit.NONE])
@pytest.mark.parametrize("isa", ["thumb2", "aarch64"])
def test_every_known_edit_is_applied_and_cheap(isa: str, edit: KnownEdit) -> None:
    old, new = images(isa, 64 * KIB, edit)
    assert old != new
    limit = 2 * INSERTION_BYTES if edit is KnownEdit.CHANGE_CALIBRATION else INSERTION_BYTES
    assert len(bundle(old, new)) < limit


@needs.MATCHER
@pytest.mark.parametrize("isa", ["thumb2", "aarch64"])
def test_the_next_version_in_small_blocks_and_without_predictors(isa: str) -> None:
    """Blocks of 4 KiB cut instructions and pieces; an ECU without predictors gets another bundle to the same image."""
    old, new = images(isa, 64 * KIB, KnownEdit.INSERT_FUNCTION, version=1)
    small = UpdateProfile(block_bytes=4 * KIB, coders=frozenset(Coder))
    sizes = [
        len(bundle(old, new, profile)) for profile in (small, UpdateProfile(block_bytes=4 * KIB, predictors=False))
    ]
    assert sizes[0] < sizes[1]


@needs.MATCHER
@pytest.mark.parametrize("effort", [1, 9])
def test_efforts(effort: int) -> None:
    old, new = images("thumb2", 32 * KIB, KnownEdit.REMOVE_FUNCTION)
    assert len(bundle(old, new, effort=effort)) < INSERTION_BYTES


@needs.MATCHER
def test_alignments_are_the_same_every_time_and_survive_a_file() -> None:
    old, new = images("thumb2", 64 * KIB, KnownEdit.INSERT_FUNCTION)
    first, second = align(old, new), align(old, new)
    assert first == second
    assert load(dump(first), old, new) == first
    assert dump(load(dump(first), old, new)) == dump(first)
    plain = align(old, new, Engine.BSDIFF)
    assert load(dump(plain), old, new) == plain


@needs.MATCHER
def test_the_pure_twin_applies_what_the_kernel_made(tmp_path: Path) -> None:
    old, new = images("thumb2", 16 * KIB, KnownEdit.INSERT_INSTRUCTION)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "bundle").write_bytes(bundle(old, new))
    command = [
        sys.executable,
        "-c",
        "from packager.cli import main; main()",
        "apply",
        "bundle",
        "--old",
        "old",
        "-o",
        "new",
    ]
    for environment in ({"PACKAGER_PURE": "1"}, {}):
        subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment}, check=True, capture_output=True)
        assert (tmp_path / "new").read_bytes() == new
        (tmp_path / "new").unlink()
