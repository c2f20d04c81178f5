"""Errors of the build side: one tree whose leaves carry an exit code and a hint.

Exit codes are a promise to scripts: open to addition, closed to renumbering.
"""

from typing import ClassVar


class PackagerError(Exception):
    """Root of all errors of the build side.

    Args:
        message: Names the object, what was found and what was expected.
        hint: What to do about it; empty if the message says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PackagerError):
    """The release file, an option or a policy is wrong. `problems` lists every fault found, not just the first."""

    exit_code = 2

    def __init__(self, message: str, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__("\n  ".join((message, *problems)) if problems else message, hint)
        self.problems = problems


class ImageError(PackagerError):
    """An input image is missing, unreadable, empty or does not fit its ECU."""

    exit_code = 10


class BudgetError(PackagerError):
    """A byte, time or memory budget of the release is exceeded."""

    exit_code = 20


class KeyMaterialError(PackagerError):
    """A key is missing, unreadable, of the wrong kind or not allowed for this use."""

    exit_code = 30


class RepositoryError(PackagerError):
    """The TUF repository can't be read, extended or published."""

    exit_code = 40


class SupplyChainError(PackagerError):
    """A step, link or layout is missing or does not hold."""

    exit_code = 50


class VerificationError(PackagerError):
    """A finished artefact is untrusted or corrupt."""

    exit_code = 60


class SpaceError(PackagerError):
    """Disk space, memory or I/O of this machine fell short."""

    exit_code = 62
