"""Cars in the field: the right old image in slot a, a configuration that the vehicle reads, and nothing half."""

from pathlib import Path

import pytest

import sample_images
from packager.config.release import read_release
from packager.model.errors import ConfigError, ImageError
from packager.vehicle.installation.home import read_configuration
from sample_images.car import check_vin, make_car, write_configuration

VIN = "WBA00000000000001"
ECU = """
[[ecu]]
name = "{name}"
role = "role"
hardware_id = "{name}-1"
supplier = "supplier"
domain = "body"
release_counter = 3
version = "3"
image = "images/{name}-3.bin"
bus_kib_per_s = 1
flash_kib_per_s = 1
byte_share_percent = 1
time_share_percent = 1
[ecu.profile]
ram_kib = 512
flash_kib = 64
"""
OLD = '[[ecu.old]]\nversion = "{version}"\nimage = "images/{name}-{version}.bin"\n'
HEAD = '[release]\nname = "R"\nversion = "1"\ncar_line = "L"\nfleet_cars = 1\n[budget]\nmib_per_car = 1\nseconds_per_car = 1\n'


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """ECU A with two old images, B with one."""
    images = tmp_path / "images"
    images.mkdir()
    text = HEAD
    for name, versions in (("A", "21"), ("B", "2")):
        text += ECU.format(name=name)
        for version in versions:
            text += OLD.format(name=name, version=version)
            (images / f"{name}-{version}.bin").write_bytes(f"{name}{version}".encode())
    path = tmp_path / "release.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("age", "a", "b"), [(0, b"A2", b"B2"), (1, b"A1", b"B2"), (9, b"A1", b"B2")])
def test_age_chooses_the_old_image_and_beyond_the_last_the_oldest(
    tmp_path: Path, release: Path, age: int, a: bytes, b: bytes
) -> None:
    installed = make_car(release, age, tmp_path / "car", VIN)
    assert (tmp_path / "car/slots/A/a").read_bytes() == a
    assert (tmp_path / "car/slots/B/a").read_bytes() == b
    assert [(entry.ecu, entry.version.encode()) for entry in installed] == [("A", a[1:]), ("B", b[1:])]
    assert sorted(path.name for path in (tmp_path / "car").iterdir()) == ["slots", "vehicle.toml"]


def test_the_vehicle_reads_the_configuration_with_the_profiles_of_the_release() -> None:
    for name in ("os7.toml", "small.toml"):
        sample, _ = read_release(Path(sample_images.__file__).parent / name)
        car = read_configuration(write_configuration(sample, VIN))
        assert car.vin == VIN
        assert [(ecu.name, ecu.hardware_id, ecu.profile) for ecu in car.ecus] == [
            (ecu.name, ecu.hardware_id, ecu.profile) for ecu in sample.ecus
        ]
        assert len({ecu.serial for ecu in car.ecus}) == len(car.ecus)


def test_in_place_profiles_are_written_too(release: Path) -> None:
    text = release.read_text().replace(
        "flash_kib = 64\n",
        'flash_kib = 64\nspare_slot = false\ncoders = ["lzma", "zstd"]\nscratch_kib = 8\nblock_kib = 4\npredictors = false\n',
    )
    release.write_text(text)
    sample, _ = read_release(release)
    assert read_configuration(write_configuration(sample, VIN)).ecus[0].profile == sample.ecus[0].profile


def test_an_existing_home_is_left_alone(tmp_path: Path, release: Path) -> None:
    home = tmp_path / "car"
    home.mkdir()
    (home / "precious").write_bytes(b"")
    with pytest.raises(ConfigError, match="is there already"):
        make_car(release, 0, home, VIN)
    assert [path.name for path in home.iterdir()] == ["precious"]


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_image_leaves_no_home(tmp_path: Path, release: Path, content: bytes | None) -> None:
    path = tmp_path / "images/B-2.bin"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ImageError, match=r"ecu B: .*B-2\.bin") as caught:
        make_car(release, 0, tmp_path / "car", VIN)
    assert "obtain" in caught.value.hint
    assert sorted(tmp_path.iterdir()) == before


def test_an_ecu_without_old_images_has_no_car_in_the_field(tmp_path: Path, release: Path) -> None:
    release.write_text(HEAD + ECU.format(name="A"))
    with pytest.raises(ConfigError, match="ecu A: has no"):
        make_car(release, 0, tmp_path / "car", VIN)
    assert not (tmp_path / "car").exists()


def test_a_negative_age_is_refused(tmp_path: Path, release: Path) -> None:
    with pytest.raises(ConfigError, match="found -1, expected 0"):
        make_car(release, -1, tmp_path / "car", VIN)


@pytest.mark.parametrize(
    "vin", ["", VIN[:-1], VIN + "1", "WBA0000000000000O", "wba00000000000001", "WBA000000000/0001"]
)
def test_a_malformed_vin_is_refused(vin: str) -> None:
    assert check_vin(VIN) == VIN
    with pytest.raises(ConfigError, match="expected 17"):
        check_vin(vin)
