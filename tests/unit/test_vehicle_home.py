import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packager.vehicle.errors import ResourceError, TemporaryError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import (
    MAX_ECUS,
    ConfigurationError,
    VehicleHome,
    open_home,
    read_configuration,
)
from packager.vehicle.installation.state import EcuState
from packager.vehicle.profile import Coder

GOOD = """
vin = "WBA1234567890TEST"

[[ecu]]
name = "BDC"
serial = "No. 1"
hardware_id = "bdc-1"
[ecu.profile]
ram_kib = 64
flash_kib = 1024
coders = ["zstd", "lzma"]

[[ecu]]
name = "DSC"
serial = "2"
hardware_id = "dsc-1"
[ecu.profile]
ram_kib = 64
flash_kib = 1024
"""


@pytest.fixture
def home(tmp_path: Path) -> VehicleHome:
    (tmp_path / "vehicle.toml").write_text(GOOD)
    return open_home(tmp_path)


def test_a_configuration_is_read() -> None:
    configuration = read_configuration(GOOD)
    assert configuration.vin == "WBA1234567890TEST"
    bdc, dsc = configuration.ecus
    assert (bdc.name, bdc.serial, bdc.hardware_id) == ("BDC", "No. 1", "bdc-1")
    assert bdc.profile.ram_bytes == 65536
    assert Coder.LZMA in bdc.profile.coders
    assert Coder.LZMA not in dsc.profile.coders


def test_all_problems_are_reported_at_once() -> None:
    text = GOOD.replace("vin =", "vim =").replace("ram_kib = 64", "ram_kib = true").replace('"DSC"', '"bdc"')
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(text + "extra = 1\n")
    problems = "\n".join(caught.value.problems)
    for wrong in (
        "vin is missing",
        "vim is unknown",
        "ram_kib: found True",
        "extra is unknown",
        "'bdc': this name occurs twice",
    ):
        assert wrong in problems


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('name = "BDC"', 'name = "../x"', "expected 1 to 64 of"),
        ('hardware_id = "bdc-1"', 'hardware_id = "a/b"', "expected 1 to 64 of"),
        ('serial = "No. 1"', 'serial = "a\\u0007"', "control characters"),
        ('coders = ["zstd", "lzma"]', 'coders = ["brotli"]', "expected zstd, lzma or adaptive"),
        ("flash_kib = 1024\ncoders", "coders", "flash_kib is missing"),
        ("vin", "vin\nvin", "not TOML"),
    ],
)
def test_wrong_values_are_named(old: str, new: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        read_configuration(GOOD.replace(old, new))


@pytest.mark.parametrize("count", [0, 1, MAX_ECUS, MAX_ECUS + 1])
def test_the_number_of_ecus_is_bounded(count: int) -> None:
    entry = '[[ecu]]\nname="E{}"\nserial="1"\nhardware_id="h"\n[ecu.profile]\nram_kib=64\nflash_kib=64\n'
    text = 'vin = "V"\n' + "".join(entry.format(number) for number in range(count))
    if 1 <= count <= MAX_ECUS:
        assert len(read_configuration(text).ecus) == count
    else:
        with pytest.raises(ConfigurationError, match=f"found {count} ECUs, expected 1 to 1000"):
            read_configuration(text)


def test_a_home_without_configuration_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"vehicle.toml: can't be read: No such file"):
        open_home(tmp_path)
    (tmp_path / "vehicle.toml").write_bytes(b"vin = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8 at byte 7"):
        open_home(tmp_path)
    (tmp_path / "vehicle.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigurationError, match="longer than 1048576 bytes"):
        open_home(tmp_path)


def test_an_ecu_is_identified_by_name_serial_and_hardware() -> None:
    texts = [GOOD, GOOD.replace("No. 1", "No. 2"), GOOD.replace("bdc-1", "bdc-2"), GOOD.replace('"BDC"', '"BDD"')]
    assert len({read_configuration(text).ecus[0].identity for text in texts}) == 4
    assert read_configuration(GOOD).ecus[0].identity == read_configuration(GOOD).ecus[0].identity


def test_what_is_installed_is_what_the_slot_holds(home: VehicleHome) -> None:
    ecu = home.configuration.ecus[0]
    assert home.identify(ecu, "a") is None
    path = home.root / "slots/BDC/a"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert home.identify(ecu, "a") is None
    path.write_bytes(b"image")
    assert home.identify(ecu, "a") == ImageId.of(b"image")
    path.unlink()
    path.mkdir()
    with pytest.raises(ResourceError, match="can't be read"):
        home.identify(ecu, "a")


def test_state_is_one_file_and_comes_back(home: VehicleHome) -> None:
    assert home.read_state() == {}
    state = {"BDC": EcuState("b", 7), "DSC": EcuState("a", 0), "gone": EcuState("b", 2**32 - 1)}
    home.write_state(state)
    assert home.read_state() == state
    assert [path.name for path in (home.root / "state").iterdir()] == ["active.json"]
    assert EcuState("a").spare_slot == "b"
    assert EcuState("b").spare_slot == "a"


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "ecus": {}}',
        '{"format": 1, "ecus": []}',
        '{"format": 1, "ecus": {"BDC": 1}}',
        '{"format": 1, "ecus": {"BDC": {"slot": "c", "release_counter": 1}}}',
        '{"format": 1, "ecus": {"BDC": {"slot": "a", "release_counter": -1}}}',
        '{"format": 1, "ecus": {"BDC": {"slot": "a", "release_counter": true}}}',
        '{"format": 1, "ecus": {"BDC": {"slot": "a", "release_counter": 4294967296}}}',
        '{"format": 1, "ecus": {"BDC": {"slot": "a"}, "BDC": {"slot": "b"}}}',
    ],
)
def test_a_damaged_state_is_never_guessed(home: VehicleHome, document: str) -> None:
    (home.root / "state").mkdir()
    (home.root / "state/active.json").write_text(document)
    with pytest.raises(ResourceError, match=r"active.json: damaged: .*; restore it"):
        home.read_state()


def test_two_updaters_exclude_each_other(home: VehicleHome) -> None:
    other = (
        "import sys; from pathlib import Path; from packager.vehicle.installation.home import open_home\n"
        "with open_home(Path(sys.argv[1])).lock():\n print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", other, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(TemporaryError, match="another updater"), home.lock():
        pass
    process.kill()
    process.communicate()
    with home.lock():  # it went with the process
        pass


def test_a_home_that_can_not_be_written_is_a_matter_of_resources(home: VehicleHome) -> None:
    """A file where the directory belongs: that stops also root, whom no mode stops."""
    shutil.rmtree(home.root / "state", ignore_errors=True)
    (home.root / "state").write_text("in the way")
    with pytest.raises(ResourceError, match="can't be opened"), home.lock():
        pass


def test_space_is_told(home: VehicleHome) -> None:
    ecu = home.configuration.ecus[0]
    assert home.free_bytes() > 0
    assert home.held_bytes(ecu, "b") == 0
    path = home.root / "slots/BDC/b"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(100_000))
    os.sync()
    assert home.held_bytes(ecu, "b") >= 100_000
    os.truncate(path, 0)
    os.truncate(path, 1 << 30)
    assert home.held_bytes(ecu, "b") < 100_000
    assert home.free_bytes() > 0


def test_state_is_plain_json(home: VehicleHome) -> None:
    home.write_state({"BDC": EcuState("b", 7)})
    document = json.loads((home.root / "state/active.json").read_text())
    assert document == {"format": 1, "ecus": {"BDC": {"slot": "b", "release_counter": 7}}}


def test_evidence_is_required_unless_the_integrator_says_otherwise() -> None:
    assert read_configuration(GOOD).is_evidence_required
    assert read_configuration('evidence = "required"\n' + GOOD).is_evidence_required
    assert not read_configuration('evidence = "optional"\n' + GOOD).is_evidence_required
    with pytest.raises(ConfigurationError, match="evidence: found 'never', expected 'required' or 'optional'"):
        read_configuration('evidence = "never"\n' + GOOD)
