"""Collection: which images are refused, and which bundles are planned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from packager.model.errors import ImageError
from packager.model.release import EcuRelease, ImageSource, Release, Speeds
from packager.pipeline.collect import collect
from packager.vehicle.profile import UpdateProfile


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Release]:
    """Makes a release of one ECU: its new image first, then the old ones, by content; None for a missing file."""

    def make(*contents: bytes | None, flash_bytes: int = 100) -> Release:
        sources = []
        for index, content in enumerate(contents):
            path = tmp_path / f"{index}.bin"
            if content is not None:
                path.write_bytes(content)
            sources.append(ImageSource(f"v{index}", path))
        ecu = EcuRelease(
            "DME", "engine", "dme-1", "A", "powertrain", 1, sources[0], tuple(sources[1:]),
            UpdateProfile(flash_bytes=flash_bytes), Speeds(1, 1), 1, 1,
        )  # fmt: skip
        return Release("R", "1", "G20", 1, 1, 1, (ecu,))

    return make


def test_one_job_per_old_image_and_a_full_bundle(release: Callable[..., Release]) -> None:
    plan = collect(release(b"new", b"old", b"older"))
    assert [job.title for job in plan.jobs] == ["DME full -> v0", "DME v1 -> v0", "DME v2 -> v0"]
    assert [image.source.version for image in plan.images] == ["v0", "v1", "v2"]
    assert plan.notes == ()


def test_same_bytes_need_one_bundle_or_none(release: Callable[..., Release]) -> None:
    plan = collect(release(b"new", b"old", b"old", b"new"))
    assert [job.title for job in plan.jobs] == ["DME full -> v0", "DME v1 -> v0"]
    assert plan.notes == ("DME v2 has the same bytes as v1", "DME v3 has the same bytes as v0")


def test_the_flash_size_is_exact(release: Callable[..., Release]) -> None:
    assert collect(release(b"x" * 100, b"y" * 100)).jobs
    with pytest.raises(ImageError, match="has 101 bytes, but the flash holds 100"):
        collect(release(b"x" * 101))


def test_every_bad_image_is_told_at_once(release: Callable[..., Release]) -> None:
    with pytest.raises(ImageError) as caught:
        collect(release(b"", None, b"z" * 101))
    assert caught.value.exit_code == 10
    for wanted in ("3 images can't be used", "DME v0", "is empty", "DME v1", "No such file", "DME v2", "has 101 bytes"):
        assert wanted in str(caught.value)


def test_a_directory_is_no_image(release: Callable[..., Release], tmp_path: Path) -> None:
    made = release(b"new", b"old")
    ecu = replace(made.ecus[0], old=(ImageSource("v1", tmp_path),))
    with pytest.raises(ImageError, match="can't be read: Is a directory"):
        collect(replace(made, ecus=(ecu,)))
