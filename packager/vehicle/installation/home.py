"""The vehicle home: what the integrator configured, what lies in the slots, and which slot is active.

``vehicle.toml`` is the integrator's and never written. ``metadata/`` holds verified TUF metadata, ``slots/<ecu>/{a,b}`` the images
(``a`` alone for an ECU without a spare slot, with ``scratch`` beside it during an update), ``state/active.json`` what `state` describes,
``state/<ecu>.*`` journal and heads of an update under way.
Without that file all boot slot a. What is installed is the digest of the active slot's bytes, never a claim.
"""

import contextlib
import fcntl
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from packager.vehicle.errors import ResourceError, TemporaryError, UntrustedError, VehicleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.state import Begun, EcuState, encode_state, parse_state
from packager.vehicle.profile import UpdateProfile, read_profile
from packager.vehicle.storage import DirectoryStorage, write_atomically
from packager.vehicle.table import Table
from packager.vehicle.transport.speed import DEFAULT_MIN_BYTES_PER_SECOND
from packager.vehicle.trust.clock import encode_floor, parse_floor

MAX_STATE_BYTES: Final = 1 << 20
MAX_CONFIGURATION_BYTES: Final = 1 << 20
MAX_ECUS: Final = 1000
CLOCK: Final = "state/clock.json"
MAX_MIN_BYTES_PER_SECOND: Final = 1_000_000_000
REQUIRED: Final = "required"
OPTIONAL: Final = "optional"


class ConfigurationError(VehicleError):
    """``vehicle.toml`` or an option is wrong; lists every problem."""

    exit_code = 2

    def __init__(self, what: str, problems: list[str]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Ecu:
    """One control unit of this car.

    Attributes:
        name: Unique in the car; names its directory of slots.
        serial: Of the unit itself.
        hardware_id: Its type.
        profile: What it can do.
    """

    name: str
    serial: str
    hardware_id: str
    profile: UpdateProfile

    @property
    def identity(self) -> Digest:
        """Digest of name, serial and hardware id: what a journal is bound to."""
        parts = [part.encode() for part in (self.name, self.serial, self.hardware_id)]
        return Digest.of(b"".join(len(part).to_bytes(4, "little") + part for part in parts))


@dataclass(frozen=True, slots=True)
class VehicleConfiguration:
    """The content of ``vehicle.toml``.

    Attributes:
        vin: The car.
        ecus: Its control units.
        is_evidence_required: Whether an image is installed only if the release gate vouches for its supply chain.
        min_bytes_per_second: Below it, over `speed.WINDOW_S`, a transfer is given up; 0 allows any speed.
    """

    vin: str
    ecus: tuple[Ecu, ...]
    is_evidence_required: bool = True
    min_bytes_per_second: int = DEFAULT_MIN_BYTES_PER_SECOND


def read_configuration(text: str, what: str = "vehicle.toml") -> VehicleConfiguration:
    """Read ``vehicle.toml``.

    Keys: ``vin``, optionally ``evidence`` ("required" or "optional") and ``min_bytes_per_second``, and ``[[ecu]]`` with ``name``,
    ``serial``, ``hardware_id`` and ``[ecu.profile]``.

    Raises:
        ConfigurationError: Anything is missing, unknown or wrong; all problems at once.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(what, [f"not TOML: {error}"]) from error
    problems: list[str] = []
    table = Table(values, "", problems)
    vin = table.name("vin")
    evidence = table.name("evidence", default=REQUIRED)
    if evidence not in (REQUIRED, OPTIONAL):
        table.problem(f"evidence: found {evidence!r}, expected {REQUIRED!r} or {OPTIONAL!r}")
    min_speed = table.integer(
        "min_bytes_per_second", least=0, most=MAX_MIN_BYTES_PER_SECOND, default=DEFAULT_MIN_BYTES_PER_SECOND
    )
    ecus = tuple(_read_ecu(entry) for entry in table.tables("ecu"))
    table.end()
    if not 1 <= len(ecus) <= MAX_ECUS:
        problems.append(f"found {len(ecus)} ECUs, expected 1 to {MAX_ECUS} tables [[ecu]]")
    names = [ecu.name.casefold() for ecu in ecus]
    problems += [f"ecu {name!r}: this name occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ConfigurationError(what, problems)
    return VehicleConfiguration(vin, ecus, evidence == REQUIRED, min_speed)


def _read_ecu(table: Table) -> Ecu:
    name = table.name("name")
    if name:
        table.rename(f"ecu {name!r}")
    ecu = Ecu(name, table.text("serial"), table.name("hardware_id"), read_profile(table.table("profile")))
    table.end()
    return ecu


class VehicleHome:
    """A vehicle home that is there and has a valid configuration. Make one with `open_home`."""

    def __init__(self, root: Path, configuration: VehicleConfiguration) -> None:
        self.root = root
        self.configuration = configuration
        self.metadata = DirectoryStorage(root / "metadata")
        self.files = DirectoryStorage(root)

    def slot_name(self, ecu: Ecu, slot: str) -> str:
        """Return a slot's path below the home."""
        return f"slots/{ecu.name}/{slot}"

    def journal_name(self, ecu: Ecu) -> str:
        """Return the path of an ECU's journal below the home."""
        return f"state/{ecu.name}.journal"

    def scratch_name(self, ecu: Ecu) -> str:
        """Return the path of an ECU's scratch for in-place updates below the home."""
        return f"slots/{ecu.name}/scratch"

    def identify(self, ecu: Ecu, slot: str, on_bytes: Callable[[int], None] | None = None) -> ImageId | None:
        """Hash what a slot holds, in bounded memory; None if it is missing or empty.

        Raises:
            ResourceError: It can't be read.
        """
        path = self.root / self.slot_name(ecu, slot)
        try:
            with path.open("rb") as file:
                found = ImageId.of_stream(file, on_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResourceError(f"{path}: can't be read: {error.strerror}") from error
        return found if found.length_bytes else None

    def read_state(self) -> dict[str, EcuState]:
        """Return the state of every ECU that the file names, others have the default.

        Raises:
            ResourceError: The file is damaged; which slot is active can't be told.
        """
        data = self.files.read("state/active.json", MAX_STATE_BYTES)
        if data is None:
            return {}
        try:
            return parse_state(data)
        except UntrustedError as error:
            raise ResourceError(
                f"{self.root / 'state/active.json'}: damaged: {error}; restore it from a backup"
            ) from error

    def write_state(self, state: Mapping[str, EcuState]) -> None:
        """Switch: one atomic rename for all ECUs.

        Raises:
            ResourceError: It can't be written; the old state holds.
        """
        write_atomically(self.root / "state/active.json", encode_state(state))

    def read_floor(self) -> datetime | None:
        """Return the last time at which a refresh held, None if none did yet.

        Raises:
            ResourceError: The file is damaged; without it an old time would be believed.
        """
        data = self.files.read(CLOCK, MAX_STATE_BYTES)
        try:
            return None if data is None else parse_floor(data)
        except UntrustedError as error:
            raise ResourceError(f"{self.root / CLOCK}: damaged: {error}; restore or remove it") from error

    def raise_floor(self, verified: datetime) -> None:
        """Remember that a refresh held at a time; an earlier one changes nothing.

        Raises:
            ResourceError: It can't be written.
        """
        floor = self.read_floor()
        if floor is None or verified.replace(microsecond=0) > floor:
            self.files.replace(CLOCK, encode_floor(verified))

    def mark_begun(self, ecu: Ecu, begun: Begun) -> None:
        """Remember, before the only slot of an ECU is overwritten, that it must not be started and what makes it whole again.

        Raises:
            ResourceError: It can't be written; nothing may be overwritten.
        """
        state = self.read_state()
        before = state.get(ecu.name, EcuState())
        if before.begun != begun:
            self.write_state({**state, ecu.name: replace(before, begun=begun)})

    def free_bytes(self) -> int:
        """Return the free space on the file system of the slots."""
        slots = self.root / "slots"
        return shutil.disk_usage(slots if slots.is_dir() else self.root).free

    def held_bytes(self, ecu: Ecu, slot: str) -> int:
        """Return the space that a slot takes up already; holes take none."""
        try:
            return (self.root / self.slot_name(ecu, slot)).stat().st_blocks * 512
        except OSError:
            return 0

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other updaters out; the lock goes with the process, however it ends.

        Raises:
            TemporaryError: Another one is at work.
            ResourceError: The home can't be written.
        """
        path = self.root / "state/lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ResourceError(f"{path}: can't be opened: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TemporaryError(f"{path}: another updater works on this home; wait until it has ended") from error
            yield
        finally:
            os.close(descriptor)


def open_home(root: Path) -> VehicleHome:
    """Open a vehicle home.

    Raises:
        ConfigurationError: It has no ``vehicle.toml``, or a wrong one.
    """
    path = root / "vehicle.toml"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIGURATION_BYTES + 1)
        if len(raw) > MAX_CONFIGURATION_BYTES:
            raise ConfigurationError(str(path), [f"longer than {MAX_CONFIGURATION_BYTES} bytes"])
        text = raw.decode()
    except OSError as error:
        raise ConfigurationError(str(path), [f"can't be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), [f"not UTF-8 at byte {error.start}"]) from error
    return VehicleHome(root, read_configuration(text, str(path)))
