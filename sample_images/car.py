"""Makes a vehicle home for a car that a release finds in the field: configuration, and an old image in slot a of every ECU."""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.config.release import read_release
from packager.model.errors import ConfigError, ImageError, SpaceError
from packager.model.release import EcuRelease, Release
from packager.vehicle.installation.home import read_configuration
from packager.vehicle.profile import KIB, Coder, UpdateProfile

VIN_CHARACTERS: Final = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
VIN_LENGTH: Final = 17


@dataclass(frozen=True, slots=True)
class Installed:
    """What was put into an ECU of the car."""

    ecu: str
    version: str
    length_bytes: int


def check_vin(vin: str) -> str:
    """Return a vehicle identification number that is well-formed (ISO 3779).

    Raises:
        ConfigError: It is not.
    """
    if len(vin) != VIN_LENGTH or any(character not in VIN_CHARACTERS for character in vin):
        raise ConfigError(f"vin: found {vin!r}, expected {VIN_LENGTH} digits and capital letters without I, O and Q")
    return vin


def make_car(release_file: Path, age: int, home: Path, vin: str) -> list[Installed]:
    """Make a vehicle home; it appears only when it is complete.

    Args:
        release_file: The release that the car is to receive.
        age: Which old image each ECU has: 0 is the newest; where there are fewer, the oldest.
        home: Directory to make.
        vin: Of the car.

    Raises:
        ConfigError: The release file, `age` or `vin` is wrong, or the home is there already.
        ImageError: An old image is missing or empty.
        SpaceError: The home can't be written.
    """
    release, _ = read_release(release_file)
    check_vin(vin)
    if age < 0:
        raise ConfigError(f"age: found {age}, expected 0 (newest old image) or more")
    if home.exists():
        raise ConfigError(f"{home}: is there already; choose another directory or remove it")
    configuration = write_configuration(release, vin)
    read_configuration(configuration)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
    except OSError as error:
        raise SpaceError(f"{home}: can't be made: {error.strerror}") from error
    try:
        (temporary / "vehicle.toml").write_text(configuration)
        installed = [_install(ecu, age, temporary) for ecu in release.ecus]
        temporary.chmod(0o755)
        temporary.replace(home)
    except OSError as error:
        raise SpaceError(f"{home}: can't be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return installed


def _install(ecu: EcuRelease, age: int, home: Path) -> Installed:
    if not ecu.old:
        raise ConfigError(f"ecu {ecu.name}: has no [[ecu.old]], expected at least one old image for a car in the field")
    image = ecu.old[min(age, len(ecu.old) - 1)]
    hint = "make the images first: python -m sample_images obtain"
    slot = home / "slots" / ecu.name / "a"
    slot.parent.mkdir(parents=True)
    try:
        length = image.path.stat().st_size
    except OSError as error:
        raise ImageError(f"ecu {ecu.name}: {image.path}: can't be read: {error.strerror}", hint) from error
    if not length:
        raise ImageError(f"ecu {ecu.name}: {image.path}: is empty, expected an image", hint)
    shutil.copyfile(image.path, slot)
    return Installed(ecu.name, image.version, length)


def write_configuration(release: Release, vin: str) -> str:
    """Return the ``vehicle.toml`` of a car. All texts in it are names, which need no escapes."""
    parts = [f'vin = "{vin}"\nevidence = "required"\n']
    for ecu in release.ecus:
        serial = hashlib.sha256(f"{vin}/{ecu.name}".encode()).hexdigest()[:10].upper()
        parts.append(
            f'\n[[ecu]]\nname = "{ecu.name}"\nserial = "{serial}"\nhardware_id = "{ecu.hardware_id}"\n'
            f"\n[ecu.profile]\n{_write_profile(ecu.profile)}"
        )
    return "".join(parts)


def _write_profile(profile: UpdateProfile) -> str:
    coders = ", ".join(f'"{coder.name.lower()}"' for coder in sorted(profile.coders) if coder is not Coder.RAW)
    lines = [
        f"ram_kib = {profile.ram_bytes // KIB}",
        f"flash_kib = {profile.flash_bytes // KIB}",
        f"spare_slot = {str(profile.spare_slot).lower()}",
        f"coders = [{coders}]",
    ]
    if profile.block_bytes:
        lines.append(f"block_kib = {profile.block_bytes // KIB}")
    if profile.scratch_bytes:
        lines.append(f"scratch_kib = {profile.scratch_bytes // KIB}")
    if not profile.predictors:
        lines.append("predictors = false")
    return "".join(f"{line}\n" for line in lines)
