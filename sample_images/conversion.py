"""From a downloaded distribution to the flat image that an ECU's flash would hold. Nothing of the distribution is executed."""

import ast
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.model.errors import ImageError
from sample_images.hexfile import flatten, read_hex

TABLE_MAGIC: Final = b"TZFLAT1\0"


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the image comes out of a distribution.

    Attributes:
        method: A name in `METHODS`.
        member: Path in the distribution; ends with ``/`` for a directory.
        variable: For ``hex-in-python``: the module's variable that holds the text.
        end_address: For ``hex-in-python``: where the flash ends.
    """

    method: str
    member: str
    variable: str = ""
    end_address: int = 1 << 32


def convert(distribution: Path, conversion: Conversion) -> bytes:
    """Return the flat image.

    Raises:
        ImageError: The distribution does not hold what the catalogue says.
    """
    try:
        return METHODS[conversion.method](distribution, conversion)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ImageError(f"{distribution.name}: can't be unpacked: {error}") from error


def _read_member(distribution: Path, member: str) -> bytes:
    try:
        if distribution.name.endswith(".whl"):
            with zipfile.ZipFile(distribution) as wheel:
                return wheel.read(member)
        with tarfile.open(distribution) as archive:
            file = archive.extractfile(member)
            if file is None:
                raise ImageError(f"{distribution.name}: {member} is a directory, expected a file")
            return file.read()
    except KeyError:
        raise ImageError(f"{distribution.name}: has no {member}; correct `member` in the catalogue") from None


def _take_member(distribution: Path, conversion: Conversion) -> bytes:
    return _read_member(distribution, conversion.member)


def _read_hex_variable(distribution: Path, conversion: Conversion) -> bytes:
    source = _read_member(distribution, conversion.member)
    return flatten(read_hex(find_text(source, conversion.variable)), conversion.end_address)


def find_text(source: bytes, variable: str) -> str:
    """Return the string that a Python module assigns to a variable, by parsing the module, not running it.

    Raises:
        ImageError: It is not Python, or assigns no string literal to that variable.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise ImageError(f"not a Python module: {error}") from error
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))) if name == variable:
                return text
            case _:
                pass
    raise ImageError(f"the module assigns no text to {variable}; correct `variable` in the catalogue")


def _join_members(distribution: Path, conversion: Conversion) -> bytes:
    with zipfile.ZipFile(distribution) as wheel:
        names = sorted(name for name in wheel.namelist() if name.startswith(conversion.member))
        files = [
            (name.removeprefix(conversion.member), wheel.read(name))
            for name in names
            if not name.endswith(("/", ".py"))
        ]
    if not files:
        raise ImageError(
            f"{distribution.name}: has no files below {conversion.member}; correct `member` in the catalogue"
        )
    return join_files(files)


def join_files(files: list[tuple[str, bytes]]) -> bytes:
    """Join files into one: magic, count, per file name length (2 bytes), length (4 bytes) and name, then the files. Little-endian."""
    table = b"".join(struct.pack("<HI", len(name.encode()), len(data)) + name.encode() for name, data in files)
    return TABLE_MAGIC + struct.pack("<I", len(files)) + table + b"".join(data for _, data in files)


METHODS: Final[dict[str, Callable[[Path, Conversion], bytes]]] = {
    "member": _take_member,
    "hex-in-python": _read_hex_variable,
    "joined-members": _join_members,
}
