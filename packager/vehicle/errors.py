"""Errors of the vehicle side, by whose fault it is and what the caller can do.

Nothing here knows of the build side. Each class carries the exit code of the command lines: a promise to scripts, open to addition,
closed to renumbering.
"""

from typing import ClassVar


class VehicleError(Exception):
    """Root of all errors of `packager.vehicle`."""

    exit_code: ClassVar[int] = 1


class UntrustedError(VehicleError):
    """Signed data does not hold: a signature, a threshold, a rollback. Stop; do not retry with the same data."""

    exit_code = 60


class CorruptError(VehicleError):
    """Bytes differ from their authentic hash or break the format. Fetch them again; nothing was written."""

    exit_code = 60


class IncompatibleError(VehicleError):
    """Authentic, but not for this ECU: wrong hardware, wrong old image, unknown version, capability or profile."""

    exit_code = 61


class ResourceError(VehicleError):
    """Space, memory or I/O of this machine fell short. Try later or make room."""

    exit_code = 62


class TemporaryError(VehicleError):
    """The network or a server failed in a way that may pass. Try again."""

    exit_code = 75


class StateError(VehicleError):
    """The caller used an object out of order, for example feeding a failed applier. A bug in the caller."""


class CancelledError(VehicleError):
    """The caller asked to stop. Everything finished so far is kept; apply again to go on."""

    exit_code = 130
