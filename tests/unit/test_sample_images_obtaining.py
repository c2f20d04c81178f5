"""Obtaining: real where possible, stand-ins otherwise and never unsaid, nothing twice, nothing half."""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from packager.model.errors import ConfigError, ImageError, SupplyChainError
from sample_images.catalogue import Package, RealImage, SampleImage
from sample_images.conversion import Conversion
from sample_images.obtaining import Origin, obtain
from sample_images.registry import Registry
from sample_images.synthesiser import FirmwareSpec

PACKAGE = Package("thing", "MIT", "https://example.org/thing", is_wheel=False, abi="", platforms=())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    path.mkdir()
    return path


@pytest.fixture
def put(cache: Path) -> Callable[[SampleImage, bytes], None]:
    """Puts the distribution of an image into the cache, as a download does."""

    def _put(image: SampleImage, distribution: bytes) -> None:
        assert image.real
        (cache / image.real.file).write_bytes(distribution)

    return _put


def make_distribution(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def real_image(version: str, content: bytes) -> tuple[SampleImage, bytes]:
    distribution = make_distribution(content)
    real = RealImage(
        PACKAGE, version, f"thing-{version}.tar.gz", digest(distribution), Conversion("member", "data"),
        digest(content), len(content),
    )  # fmt: skip
    return SampleImage("things", version, FirmwareSpec("thumb2", 16384, 1, int(version)), real), distribution


GENERATED = SampleImage("made", "1.0", FirmwareSpec("aarch64", 16384, 2), None)


def ignore(text: str) -> None:
    del text


def provenance(directory: Path) -> dict[str, dict[str, object]]:
    document = json.loads((directory / "PROVENANCE.json").read_text())
    images: dict[str, dict[str, object]] = document["images"]
    return images


def test_real_images_are_converted_and_noted(
    tmp_path: Path, cache: Path, put: Callable[[SampleImage, bytes], None]
) -> None:
    image, distribution = real_image("1", b"machine code")
    put(image, distribution)
    (got,) = obtain([image], tmp_path / "images", Registry(cache, None), ignore)
    assert (got.origin, got.is_stand_in, got.is_new) == (Origin.REAL, False, True)
    assert (tmp_path / "images/things/1.bin").read_bytes() == b"machine code"
    entry = provenance(tmp_path / "images")["things/1.bin"]
    assert entry["origin"] == "real"
    assert entry["sha256"] == digest(b"machine code")


def test_a_second_run_touches_nothing_and_needs_neither_cache_nor_registry(
    tmp_path: Path, cache: Path, put: Callable[[SampleImage, bytes], None]
) -> None:
    image, distribution = real_image("1", b"machine code")
    put(image, distribution)
    images = tmp_path / "images"
    obtain([image, GENERATED], images, Registry(cache, None), ignore)
    (cache / "thing-1.tar.gz").unlink()
    before = {path: path.stat().st_mtime_ns for path in images.rglob("*")}
    told: list[str] = []
    got = obtain([image, GENERATED], images, Registry(cache, None), told.append)
    assert told == []
    assert [entry.is_new for entry in got] == [False, False]
    assert before == {path: path.stat().st_mtime_ns for path in images.rglob("*")}


def test_without_a_registry_the_whole_kind_is_generated_and_it_is_said(
    tmp_path: Path, cache: Path, put: Callable[[SampleImage, bytes], None]
) -> None:
    (one, distribution), (two, _) = real_image("1", b"one"), real_image("2", b"two")
    put(one, distribution)
    told: list[str] = []
    got = obtain([one, two, GENERATED], tmp_path / "images", Registry(cache, None), told.append)
    assert [entry.is_stand_in for entry in got] == [True, True, False]
    assert all(entry.origin is Origin.GENERATED for entry in got)
    assert any("GENERATED stand-ins" in line and "things" in line for line in told)
    entries = provenance(tmp_path / "images")
    assert {entry["origin"] for entry in entries.values()} == {"generated"}
    assert entries["things/2.bin"]["stands_in_for"] == "thing-2.tar.gz"
    assert (tmp_path / "images/things/1.bin").stat().st_size == 16384


def test_a_later_run_with_the_distributions_replaces_the_stand_ins(
    tmp_path: Path, cache: Path, put: Callable[[SampleImage, bytes], None]
) -> None:
    (one, first), (two, second) = real_image("1", b"one"), real_image("2", b"two")
    images = tmp_path / "images"
    obtain([one, two], images, Registry(cache, None), ignore)
    put(one, first)
    put(two, second)
    assert all(entry.origin is Origin.REAL for entry in obtain([one, two], images, Registry(cache, None), ignore))
    assert (images / "things/2.bin").read_bytes() == b"two"
    assert {entry["origin"] for entry in provenance(images).values()} == {"real"}


def test_the_registry_is_not_asked_again_once_it_is_silent(tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "calls"
    script = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + '\\n'); sys.exit(1)"
    (one, _), (two, _) = real_image("1", b"one"), real_image("2", b"two")
    other = replace(two, kind="others")
    obtain([one, other], tmp_path / "images", Registry(cache, [sys.executable, "-c", script]), ignore)
    assert log.read_text().split() == ["download", "index"]


def test_a_refused_file_is_an_error_and_no_stand_in_takes_its_place(tmp_path: Path, cache: Path) -> None:
    (image, _) = real_image("1", b"one")
    script = "import sys; sys.exit(sys.argv[1] == 'download')"
    with pytest.raises(SupplyChainError):
        obtain([image], tmp_path / "images", Registry(cache, [sys.executable, "-c", script]), ignore)
    assert not (tmp_path / "images").exists()
    assert list(cache.iterdir()) == []


def test_an_image_that_converts_to_other_bytes_is_refused(
    tmp_path: Path, cache: Path, put: Callable[[SampleImage, bytes], None]
) -> None:
    image, distribution = real_image("1", b"one")
    assert image.real
    for wrong in (replace(image.real, image_sha256=digest(b"two")), replace(image.real, image_bytes=4)):
        put(image, distribution)
        with pytest.raises(ImageError, match="converts to 3 bytes"):
            obtain([replace(image, real=wrong)], tmp_path / "images", Registry(cache, None), ignore)
        assert not (tmp_path / "images/things/1.bin").exists()


@pytest.mark.parametrize("damage", [b"", b"other"])
def test_a_damaged_image_is_made_again(tmp_path: Path, cache: Path, damage: bytes) -> None:
    images = tmp_path / "images"
    (first,) = obtain([GENERATED], images, Registry(cache, None), ignore)
    (images / GENERATED.name).write_bytes(damage)
    (again,) = obtain([GENERATED], images, Registry(cache, None), ignore)
    assert again.is_new
    assert digest((images / GENERATED.name).read_bytes()) == first.sha256


def test_another_recipe_makes_the_image_again(tmp_path: Path, cache: Path) -> None:
    images = tmp_path / "images"
    (first,) = obtain([GENERATED], images, Registry(cache, None), ignore)
    changed = replace(GENERATED, firmware=replace(GENERATED.firmware, version=1))
    (second,) = obtain([changed], images, Registry(cache, None), ignore)
    assert second.is_new
    assert second.sha256 != first.sha256


def test_a_damaged_provenance_file_is_written_anew(tmp_path: Path, cache: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "PROVENANCE.json").write_text('{"format": 1, "images": []}')
    obtain([GENERATED], images, Registry(cache, None), ignore)
    assert list(provenance(images)) == [GENERATED.name]


def test_a_generator_that_fails_leaves_no_file(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: FirmwareSpec) -> object:
        yield b"half"
        raise ConfigError("outgrown")

    monkeypatch.setattr("sample_images.synthesiser.synthesise", fail)
    with pytest.raises(ConfigError):
        obtain([GENERATED], tmp_path / "images", Registry(cache, None), ignore)
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []
