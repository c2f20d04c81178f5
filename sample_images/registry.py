"""Pinned distributions from the package registry, by pip in its hash-checking mode. No output of pip is interpreted."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packager.model.errors import PackagerError, SpaceError, SupplyChainError
from sample_images.catalogue import RealImage

PIP: Final = (sys.executable, "-m", "pip")
PYTHON_VERSION: Final = "3.11"
_SHOWN_CHARACTERS: Final = 2000


class UnreachableError(PackagerError):
    """The package registry does not answer."""

    exit_code = 75


@dataclass(frozen=True, slots=True)
class Registry:
    """Downloads into a cache directory.

    Attributes:
        cache: Where distributions are kept.
        pip: Command that runs pip; None never asks the registry.
        timeout_s: Longest time for one call of pip.
    """

    cache: Path
    pip: Sequence[str] | None = PIP
    timeout_s: float = 600

    def cached(self, image: RealImage) -> Path | None:
        """Return the distribution if the cache has it, with the right hash; a damaged one is removed.

        Raises:
            SpaceError: The cache can't be read.
        """
        path = self.cache / image.file
        try:
            if not path.is_file():
                return None
            if sha256_of(path) == image.file_sha256:
                return path
            path.unlink()
        except OSError as error:
            raise SpaceError(f"{path}: can't be read: {error.strerror}") from error
        return None

    def fetch(self, image: RealImage) -> Path:
        """Return the distribution, downloaded if the cache does not have it.

        Raises:
            UnreachableError: The registry does not answer.
            SupplyChainError: It answers, but not with the pinned file; nothing is kept.
            SpaceError: The cache can't be written.
        """
        found = self.cached(image)
        if found:
            return found
        if self.pip is None:
            raise UnreachableError(f"{image.file}: not in the cache, and the registry is not asked")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache, prefix=".download-") as directory:
                return self._download(self.pip, image, Path(directory))
        except OSError as error:
            raise SpaceError(f"{self.cache}: can't be written: {error.strerror}") from error

    def _download(self, pip: Sequence[str], image: RealImage, directory: Path) -> Path:
        requirements = directory / "requirements.txt"
        pinned = f"{image.package.name}=={image.package_version} --hash=sha256:{image.file_sha256}\n"
        requirements.write_text(pinned)
        arrived = directory / "arrived"
        options = _form_options(image)
        result = self._run(
            pip, "download", "--no-deps", "--require-hashes", *options, "-d", str(arrived), "-r", str(requirements)
        )
        path = arrived / image.file
        if result.returncode == 0 and path.is_file():
            found = sha256_of(path)
            if found == image.file_sha256:
                return path.replace(self.cache / image.file)
            raise SupplyChainError(
                f"{image.file}: SHA-256 {found}, expected {image.file_sha256}; the file is not kept",
                hint="someone changed the file or the catalogue; compare both with the project's own page",
            )
        # pip's exit code does not tell a refused file from a silent registry, and its messages change; so ask whether it answers at all.
        if result.returncode and self._run(pip, "index", "versions", image.package.name).returncode:
            raise UnreachableError(f"{image.file}: the package registry does not answer")
        raise SupplyChainError(
            f"{image.file}: the registry answers, but pip did not deliver this file with SHA-256 {image.file_sha256}; pip says:\n"
            + (result.stderr or result.stdout)[-_SHOWN_CHARACTERS:].strip(),
            hint=("" if image.package.is_wheel else "a source distribution needs setuptools 70.1 or newer beside pip; ")
            + "if the file has gone from the registry, use generated images: obtain --offline",
        )

    def _run(self, pip: Sequence[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
        quiet = ("--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "30")
        command = [*pip, *arguments, *quiet]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=self.timeout_s
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"no end after {self.timeout_s:g} s")


def _form_options(image: RealImage) -> list[str]:
    package = image.package
    if not package.is_wheel:
        # pip asks a source distribution for its metadata; without isolation that uses what is installed and fetches nothing.
        return ["--no-binary", package.name, "--no-build-isolation"]
    options = ["--only-binary", ":all:"]
    if package.platforms:
        options += ["--implementation", "cp", "--python-version", PYTHON_VERSION, "--abi", package.abi]
        for platform in package.platforms:
            options += ["--platform", platform]
    return options


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
