"""The time of issue, which everything that expires is counted from: the only place of the build side that reads the clock.

What is built may be dated by SOURCE_DATE_EPOCH. What is judged or takes force may not: an environment that dates builds back, as CI does,
must not publish a timestamp that is nearly over, nor let `packager repo status` overlook what has expired.
"""

import os
from datetime import UTC, datetime

import click

from packager.model.errors import ConfigError

_FORMATS = ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]

ISSUED_AT = click.option(
    "--issued-at",
    type=click.DateTime(_FORMATS),
    help="Time of issue, UTC. Default: SOURCE_DATE_EPOCH, else now. The same time gives the same bytes.",
)
AS_OF = click.option(
    "--issued-at",
    type=click.DateTime(_FORMATS),
    help="Time to judge by and to count life times from, UTC. Default: now.",
)


def issue_time(issued_at: datetime | None) -> datetime:
    """Return the time of issue in whole seconds of UTC: the option, else SOURCE_DATE_EPOCH, else now.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is not a number of seconds.
    """
    if issued_at is not None:
        return issued_at.replace(tzinfo=UTC)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return now()
    if not epoch.isascii() or not epoch.isdecimal() or len(epoch) > 11:
        raise ConfigError(f"SOURCE_DATE_EPOCH: found {epoch!r}, expected seconds since 1970 as digits")
    return datetime.fromtimestamp(int(epoch), UTC)


def as_of(issued_at: datetime | None) -> datetime:
    """Return the time to judge by in whole seconds of UTC: the option, else now."""
    return now() if issued_at is None else issued_at.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the time of this machine in whole seconds of UTC."""
    return datetime.now(UTC).replace(microsecond=0)
