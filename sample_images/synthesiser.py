"""The firmware synthesiser: version n of a firmware of any size from a seed, with everything re-linked after each change.

The flash holds, in this order: vector table, version text, modules of functions and constant data, 0xFF fill, calibration
maps, CRC-32 of all before. The same `FirmwareSpec` gives the same bytes on every machine.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from packager.model.errors import ConfigError, SpaceError
from sample_images.calibration import CalibrationMap, plan_calibration, write_map
from sample_images.instructions import InstructionSet
from sample_images.instructions_aarch64 import AARCH64
from sample_images.instructions_thumb2 import THUMB2
from sample_images.linker import (
    PlacedFunction,
    PlacedModule,
    link_modules,
    place_module,
    place_modules,
    placed_functions,
)
from sample_images.modules import Growth, KnownEdit, plan_module

SYNTHESISER_REVISION: Final = 1
"""Grows whenever the same `FirmwareSpec` gives other bytes than before."""
INSTRUCTION_SETS: Final[dict[str, InstructionSet]] = {isa.name: isa for isa in (THUMB2, AARCH64)}
MIN_FLASH_BYTES: Final = 16 << 10
MAX_FLASH_BYTES: Final = 1 << 30
MAX_VERSION: Final = 1000
MIN_FILL_PERCENT: Final = 10
MAX_FILL_PERCENT: Final = 80
_TEXT_BYTES: Final = 64
_CRC_BYTES: Final = 4
_MAX_CALIBRATION_BYTES: Final = 1 << 20
_MIN_MODULE_BYTES: Final = 4 << 10
_MAX_MODULE_BYTES: Final = 256 << 10
_RODATA_SHARE: Final = 0.16
_HANDLERS: Final = 24
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FirmwareSpec:
    """Which firmware to make.

    Attributes:
        isa: ``thumb2`` or ``aarch64``.
        flash_bytes: Length of the image, from 16 KiB to 1 GiB.
        seed: Two seeds give two unrelated firmwares.
        version: 0 is the first; each later one changes functions, constant data and calibration of the one before.
        fill_percent: Share of the flash that is left 0xFF, from 10 to 80; a version's growth comes out of it.
        change_percent: Share of the functions of a touched module that a version edits, from 0 to 100; at least one.
        known_edit: One exactly known change on top of the version.

    Raises:
        ConfigError: A value is out of range; all that are wrong are named.
    """

    isa: str
    flash_bytes: int
    seed: int
    version: int = 0
    fill_percent: int = 20
    change_percent: int = 4
    known_edit: KnownEdit = KnownEdit.NONE

    def __post_init__(self) -> None:
        problems = [
            f"{name}: found {value}, expected {least} to {most}"
            for name, value, least, most in (
                ("flash_bytes", self.flash_bytes, MIN_FLASH_BYTES, MAX_FLASH_BYTES),
                ("version", self.version, 0, MAX_VERSION),
                ("fill_percent", self.fill_percent, MIN_FILL_PERCENT, MAX_FILL_PERCENT),
                ("change_percent", self.change_percent, 0, 100),
            )
            if not least <= value <= most
        ]
        if self.isa not in INSTRUCTION_SETS:
            problems.append(f"isa: found {self.isa!r}, expected one of {', '.join(INSTRUCTION_SETS)}")
        if problems:
            raise ConfigError("firmware can't be generated:", tuple(problems))

    @property
    def recipe(self) -> str:
        """All that the bytes depend on, in one line."""
        edit = "" if self.known_edit is KnownEdit.NONE else f" {self.known_edit.value}"
        return (
            f"synthesiser {SYNTHESISER_REVISION}: {self.isa} {self.flash_bytes} bytes seed {self.seed} version {self.version}"
            f" fill {self.fill_percent} % change {self.change_percent} %{edit}"
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts of the flash lie. Lengths in bytes, addresses absolute."""

    isa: InstructionSet
    growth: Growth
    vector_bytes: int
    code_address: int
    calibration_address: int
    calibration: tuple[CalibrationMap, ...]
    calibration_key: str
    end: int


def _lay_out(spec: FirmwareSpec) -> _Layout:
    isa = INSTRUCTION_SETS[spec.isa]
    key = f"{spec.seed}/{spec.isa}/{spec.flash_bytes}/{spec.fill_percent}"
    calibration_bytes = min(spec.flash_bytes // 8, _MAX_CALIBRATION_BYTES) & ~3
    end = isa.base_address + spec.flash_bytes
    calibration_address = (end - _CRC_BYTES - calibration_bytes) & ~3
    vector_bytes = len(isa.vectors([isa.base_address]))
    code_address = isa.base_address + vector_bytes + _TEXT_BYTES
    room = calibration_address - code_address - spec.flash_bytes * spec.fill_percent // 100
    module_bytes = min(max(room // 8, _MIN_MODULE_BYTES), _MAX_MODULE_BYTES)
    modules = max(1, room // module_bytes)
    code_bytes = int(room // modules * (1 - _RODATA_SHARE))
    growth = Growth(isa, key, modules, code_bytes, spec.version, spec.change_percent, spec.known_edit)
    edited = (0,) if spec.known_edit is KnownEdit.CHANGE_CALIBRATION else ()
    maps = plan_calibration(key, calibration_bytes, spec.version, edited)
    return _Layout(isa, growth, vector_bytes, code_address, calibration_address, maps, key, end)


def _placed(layout: _Layout) -> Iterator[PlacedModule]:
    plans = (plan_module(layout.growth, index) for index in range(layout.growth.modules))
    for module in place_modules(plans, layout.code_address):
        if module.end > layout.calibration_address:
            raise ConfigError(
                f"firmware can't be generated: version {layout.growth.version} has outgrown its flash at module {module.index}",
                hint="raise fill_percent or lower the version",
            )
        yield module


def symbols(spec: FirmwareSpec) -> Iterator[PlacedFunction]:
    """Yield where each function stands, in flash order: the map file of the linker."""
    layout = _lay_out(spec)
    for module in _placed(layout):
        yield from placed_functions(layout.isa, module)


def synthesise(spec: FirmwareSpec) -> Iterator[bytes]:
    """Yield the image in pieces of at most about 1 MiB, in bounded memory.

    Raises:
        ConfigError: The version has outgrown its flash.
    """
    crc = 0
    length = 0
    for chunk in _parts(spec):
        crc = zlib.crc32(chunk, crc)
        length += len(chunk)
        yield chunk
    rest = b"\xff" * (spec.flash_bytes - length - _CRC_BYTES)
    yield rest + zlib.crc32(rest, crc).to_bytes(_CRC_BYTES, "little")


def _parts(spec: FirmwareSpec) -> Iterator[bytes]:
    layout = _lay_out(spec)
    base = layout.isa.base_address
    first = place_module(plan_module(layout.growth, 0), 0, layout.code_address)
    vectors = layout.isa.vectors(first.starts[: min(_HANDLERS, len(first.starts))])
    text = f"{spec.isa} firmware, seed {spec.seed}, version {spec.version}".encode()[: _TEXT_BYTES - 1]
    yield vectors + text.ljust(_TEXT_BYTES, b"\0")
    length = layout.vector_bytes + _TEXT_BYTES
    offsets = {placed.number: layout.calibration_address + placed.offset for placed in layout.calibration}
    by_identity = [offsets[number] for number in sorted(offsets) if number < len(offsets)]
    for chunk in link_modules(layout.isa, _placed(layout), by_identity):
        length += len(chunk)
        yield chunk
    fill = layout.calibration_address - base - length
    while fill:
        part = min(fill, _CHUNK_BYTES)
        yield b"\xff" * part
        fill -= part
    yield b"".join(write_map(layout.calibration_key, wanted) for wanted in layout.calibration)


def synthesise_bytes(spec: FirmwareSpec) -> bytes:
    """Return a whole image; for small ones."""
    return b"".join(synthesise(spec))


def with_edit(spec: FirmwareSpec, edit: KnownEdit) -> FirmwareSpec:
    """Return the same firmware with one known change on top."""
    return replace(spec, known_edit=edit)


def write_firmware(spec: FirmwareSpec, path: Path) -> None:
    """Write an image to a file, which appears only when it is complete.

    Raises:
        ConfigError: The version has outgrown its flash.
        SpaceError: The file can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for chunk in synthesise(spec):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SpaceError(f"{path}: can't be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
