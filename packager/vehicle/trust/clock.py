"""What time it is for the checks of expiry: never before the last time at which a refresh held; a clock far ahead bricks nothing.

A car's clock is not authenticated: it falls back to 1970 with the battery, or jumps ahead. The *floor* is the latest time at which metadata
was verified and had not expired, so the root, which custodians sign offline, bounds how far a wrong clock can lift it. TUF metadata says
until when it holds, not when it was signed: so there is nothing in it that a new car could begin with. Its maker tells the time when it
gets its root (Uptane 5.4.1), within the life of that root; without, the first clock is believed. Pure; `home` keeps the floor.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.trust.metadata_json import parse_json
from packager.vehicle.trust.workflow import ExpiredError

MAX_JUMP: Final = timedelta(days=90)
"""Longest time between two refreshes that held after which metadata that looks expired speaks against the repository. After a longer
one the clock may as well be wrong: Uptane's brick by a clock at its maximum."""
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


class ClockError(TemporaryError):
    """Everything looks expired, and the clock is far ahead of the last time that was verified. It may be the clock; nothing was stored."""


@dataclass(frozen=True, slots=True)
class CheckedTime:
    """The time for one refresh.

    Attributes:
        now: What expiry is checked against.
        clock: What the clock says.
        floor: The last verified time; None before the first refresh.
    """

    now: datetime
    clock: datetime
    floor: datetime | None

    @property
    def note(self) -> str:
        """What is to be reported of the clock; empty if it is plausible."""
        if self.floor is None or self.clock >= self.floor:
            return ""
        return f"the clock says {self.clock:{_FORM}}, before the last verified time; {self.floor:{_FORM}} is used"

    def explain(self, error: ExpiredError) -> UntrustedError | ClockError:
        """Return what to raise for metadata that looks expired: a doubt of the clock if it is far ahead, else the error itself."""
        if self.floor is None or self.clock - self.floor <= MAX_JUMP:
            return error
        return ClockError(
            f"{error}; but the clock is {(self.clock - self.floor).days} days ahead of the last verified time "
            f"{self.floor:{_FORM}}, expected at most {MAX_JUMP.days}: set the clock; if it is right, the repository must be renewed"
        )


def check_time(clock: datetime, floor: datetime | None) -> CheckedTime:
    """Return the time to check expiry against: the clock's, but never before `floor`."""
    return CheckedTime(clock if floor is None else max(clock, floor), clock, floor)


def read_clock() -> datetime:
    """Return this machine's time, UTC; one that no date can express counts as the last date, which is far ahead."""
    try:
        return datetime.now(UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def parse_time(text: str) -> datetime:
    """Return a time as ``2026-07-01T12:00:00Z``, with any offset from UTC.

    Raises:
        ValueError: It is none, or says no offset.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} says no offset from UTC")
    return time.astimezone(UTC)


def encode_floor(floor: datetime) -> bytes:
    """Write the file; the inverse of `parse_floor`."""
    return json.dumps({"format": 1, "verified": floor.strftime(_FORM)}).encode()


def parse_floor(data: bytes) -> datetime:
    """Read the file.

    Raises:
        UntrustedError: It is damaged.
    """
    document = parse_json(data, "clock")
    if isinstance(document, dict) and document.get("format") == 1:
        try:
            return datetime.strptime(str(document.get("verified")), _FORM).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise UntrustedError(f"clock: found {document!r}, expected format 1 and the last verified time")
