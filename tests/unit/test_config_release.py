"""Release files: what is read, and that every problem is told at once."""

from pathlib import Path

import pytest

from packager.config.release import read_release
from packager.model.errors import ConfigError
from packager.vehicle.identity import Digest
from packager.vehicle.profile import Coder

RELEASE = """
[release]
name = "OS 7.0"
version = "07/2020.45"
car_line = "G20"
fleet_cars = 900000

[budget]
mib_per_car = 40
seconds_per_car = 1200

[[ecu]]
name = "DME"
role = "engine"
hardware_id = "dme-1"
supplier = "Supplier A"
domain = "powertrain"
release_counter = 3
version = "1.2"
image = "images/dme/1.2.bin"
bus_kib_per_s = 500
flash_kib_per_s = 300
byte_share_percent = 60
time_share_percent = 100
[ecu.profile]
ram_kib = 512
flash_kib = 2048
coders = ["zstd", "lzma"]
[[ecu.old]]
version = "1.1"
image = "images/dme/1.1.bin"
"""


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "release.toml"
    path.write_text(text)
    return read_release(path)


def problems(tmp_path: Path, *changes: tuple[str, str]) -> tuple[str, ...]:
    text = RELEASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_a_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "release.toml"
    path.write_text(RELEASE)
    release, digest = read_release(path)
    assert digest == Digest.of(RELEASE.encode())
    assert (release.name, release.version, release.fleet_cars) == ("OS 7.0", "07/2020.45", 900_000)
    assert (release.budget_bytes, release.budget_s) == (40 << 20, 1200)
    (ecu,) = release.ecus
    assert ecu.new.path == tmp_path / "images/dme/1.2.bin"
    assert [image.version for image in ecu.old] == ["1.1"]
    assert ecu.profile.ram_bytes == 512 << 10
    assert ecu.profile.coders == frozenset({Coder.RAW, Coder.ZSTD, Coder.LZMA})
    assert (ecu.speeds.bus_bytes_per_s, ecu.speeds.flash_bytes_per_s) == (500 << 10, 300 << 10)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ('car_line = "G20"', 'car_lines = "G20"'),
        ('name = "DME"', 'name = "D/ME"'),
        ("ram_kib = 512", "ram_kib = true"),
        ('"lzma"', '"bzip2"'),
        ("release_counter = 3", "release_counter = 0"),
        ('version = "1.1"', 'version = "1.2"'),
        ("byte_share_percent = 60", "byte_share_percent = 101"),
        ("[budget]", "[budgets]"),
    )
    text = "\n".join(found)
    for wanted in (
        "car_line is missing",
        "car_lines is unknown",
        "name: found 'D/ME'",
        "ram_kib: found True",
        "found 'bzip2', expected zstd, lzma or adaptive",
        "release_counter: found 0, expected 1 to",
        "version 1.2 is listed 2 times",
        "byte_share_percent: found 101, expected 1 to 100",
        "budget is missing",
        "budgets is unknown",
    ):
        assert wanted in text
    assert len(found) == len(set(found))


def test_an_unknown_key_names_its_table(tmp_path: Path) -> None:
    assert problems(tmp_path, ("flash_kib = 2048", "flash_kib = 2048\ncolour = 1")) == (
        "ecu DME.profile: colour is unknown",
    )


def test_two_ecus_may_not_share_name_or_hardware_or_exceed_the_shares(tmp_path: Path) -> None:
    second = RELEASE[RELEASE.index("[[ecu]]") :]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, RELEASE + second)
    assert caught.value.problems == (
        "name DME belongs to 2 ECUs, expected one",
        "hardware_id dme-1 belongs to 2 ECUs, expected one",
        "byte_share_percent of all ECUs: found 120, expected at most 100",
        "time_share_percent of all ECUs: found 200, expected at most 100",
    )


def test_no_ecu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \[\[ecu\]\]"):
        read(tmp_path, RELEASE[: RELEASE.index("[[ecu]]")])


@pytest.mark.parametrize("block_kib", [3, 5, 6])
def test_block_sizes_are_powers_of_two(tmp_path: Path, block_kib: int) -> None:
    (problem,) = problems(tmp_path, ("ram_kib = 512", f"ram_kib = 512\nblock_kib = {block_kib}"))
    assert "power of two from 4 KiB to 4 MiB" in problem


@pytest.mark.parametrize("text", ["[release", "\xff"])
def test_not_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "release.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="expected TOML in UTF-8"):
        read_release(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read_release(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ((), 25),
        ((("fleet_cars = 900000", "fleet_cars = 900000\nrepair_percent = 0"),), 0),
        ((("time_share_percent = 100", "time_share_percent = 100\nrepair_percent = 100"),), 100),
    ],
    ids=["default", "of the release", "of the ECU"],
)
def test_how_much_may_be_repaired(tmp_path: Path, changes: tuple[tuple[str, str], ...], percent: int) -> None:
    text = RELEASE
    for old, new in changes:
        text = text.replace(old, new)
    path = tmp_path / "release.toml"
    path.write_text(text)
    assert read_release(path)[0].ecus[0].repair_percent == percent


@pytest.mark.parametrize("percent", [-1, 101])
def test_repair_is_a_share_of_the_image(tmp_path: Path, percent: int) -> None:
    change = ("time_share_percent = 100", f"time_share_percent = 100\nrepair_percent = {percent}")
    assert problems(tmp_path, change) == (f"ecu DME: repair_percent: found {percent}, expected 0 to 100",)


@pytest.mark.parametrize(
    ("version", "name"), [("07/2020.45", "07-2020.45"), ("1 b\u00fc+~_", "1-b-+~_"), ("x" * 64, "x" * 64)]
)
def test_a_release_has_a_name_that_is_safe_as_a_path(tmp_path: Path, version: str, name: str) -> None:
    path = tmp_path / "release.toml"
    path.write_text(RELEASE.replace('version = "07/2020.45"', f'version = "{version}"'))
    assert read_release(path)[0].id == name


@pytest.mark.parametrize("version", ["/1", ".1", "-", "x" * 65])
def test_a_version_that_makes_no_name_is_refused(tmp_path: Path, version: str) -> None:
    (found,) = problems(tmp_path, ('version = "07/2020.45"', f'version = "{version}"'))
    assert f"version: found {version!r}, expected at most 64 characters, a letter or digit first" in found
