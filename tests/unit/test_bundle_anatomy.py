"""Where the bytes go: the columns of every golden bundle add up to its blobs, and damage is refused."""

from pathlib import Path

import pytest

from packager.bundle.anatomy import count_modes, dissect, dissect_file
from packager.vehicle.core.manifest import Op
from packager.vehicle.errors import CorruptError
from packager.vehicle.profile import Coder
from tests.predicted_bundles import aarch64, adaptive, arm32, labels, mixed, predicted_samples, thumb2
from tests.sample_bundles import Sample, delta_mixed, delta_one_block, full_mixed, samples


@pytest.mark.parametrize("sample", [*samples(), *predicted_samples()], ids=lambda sample: sample.name)
def test_columns_add_up_to_the_blobs(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(sample.data)
    blocks = list(dissect_file(path, sample.head))
    assert len(blocks) == sample.head.manifest.block_count
    for block in blocks:
        flags = block.record.op is Op.PREDICTED
        assert sum(column.coded_bytes for column in block.columns) + flags == block.record.blob_bytes
        assert {column.coder for column in block.columns} <= sample.head.manifest.coders
        if block.record.op in (Op.DELTA, Op.PREDICTED):
            assert sum(column.decoded_bytes for column in block.columns) <= sample.head.manifest.max_decoded_bytes
        else:
            assert block.columns[0].name == block.record.op.name.lower()


def test_columns_are_named_after_what_they_hold(tmp_path: Path) -> None:
    for sample, names in (
        (delta_one_block(), "literals controls values"),
        (thumb2(), "literals gaps values"),
        (adaptive(), "literals residuals"),
    ):
        path = tmp_path / sample.name
        path.write_bytes(sample.data)
        block = next(dissect_file(path, sample.head))
        assert " ".join(column.name for column in block.columns) == names
        assert block.has_pieces


def test_what_a_predicted_block_says_of_itself(tmp_path: Path) -> None:
    found = []
    for sample in (thumb2(), aarch64(), arm32(), labels()):
        path = tmp_path / sample.name
        path.write_bytes(sample.data)
        block = next(dissect_file(path, sample.head))
        found.append((block.unit_bytes, block.literals_know, block.has_pieces))
    assert found == [(2, "", True), (4, "source", True), (4, "old image", True), (1, "old image", False)]


def test_modes_are_counted_by_page() -> None:
    assert [mode.pages for mode in count_modes(thumb2().head)] == [2, 1]
    assert [mode.instruction_set.name for mode in count_modes(mixed().head)] == [
        "NONE",
        "THUMB2",
        "ARM32",
        "AARCH64",
        "RISCV",
        "X86",
    ]
    assert count_modes(delta_mixed().head) == []
    assert count_modes(full_mixed().head) == []


@pytest.mark.parametrize("damage", ["changed", "cut short"])
def test_a_damaged_blob_is_refused(damage: str, tmp_path: Path) -> None:
    sample = thumb2()
    path = tmp_path / "bundle"
    data = bytearray(sample.data)
    if damage == "changed":
        data[-1] ^= 1
    else:
        del data[-1]
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"block 2, expected the .* cut short or damaged"):
        list(dissect_file(path, sample.head))


@pytest.mark.parametrize("blob", [b"", b"\0", b"\0\0\0\0\0", b"\0\3\0\0", b"\0\x09\1\0\0", b"\0\x28aaa\0\0"])
def test_columns_that_do_not_fill_the_blob(blob: bytes) -> None:
    record = thumb2().head.index[0]
    with pytest.raises(CorruptError):
        dissect(record, blob, 4096)
    assert dissect(record, b"\0\0\0\0", 4096).columns[2].coder is Coder.RAW
