"""What a build made, as data: `report.json` holds what follows from the inputs, `measurements.json` what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from packager.model.errors import BudgetError
from packager.model.jobs import BuiltBundle, Plan
from packager.model.release import EcuRelease, Release

LINKS_MBIT_PER_S: Final = (1, 10, 100)


@dataclass(frozen=True, slots=True)
class CarTotal:
    """What one car downloads and how long that takes.

    Attributes:
        start: Which images it has: ``previous``, ``oldest`` or ``none`` (full bundles).
        bundle_bytes: Bytes that it downloads.
        image_bytes: Bytes of the new images.
        install_s: Seconds over bus and into flash, one ECU after the other.
    """

    start: str
    bundle_bytes: int
    image_bytes: int
    install_s: float


def seconds_over(bundle_bytes: int, mbit_per_s: int) -> float:
    """Return how long a download takes."""
    return bundle_bytes * 8 / (mbit_per_s * 1e6)


def install_seconds(ecu: EcuRelease, bundle_bytes: int, image_bytes: int) -> float:
    """Return how many seconds an ECU needs to take in a bundle over its bus and to write the image to its flash.

    Without a spare slot every block is written twice: to the scratch, then in place.
    """
    written_bytes = image_bytes * (1 if ecu.profile.spare_slot else 2)
    return bundle_bytes / ecu.speeds.bus_bytes_per_s + written_bytes / ecu.speeds.flash_bytes_per_s


def car_totals(bundles: Sequence[BuiltBundle]) -> tuple[CarTotal, ...]:
    """Add up what cars download: from the newest old images, from the oldest, and from nothing."""
    by_ecu: dict[str, list[BuiltBundle]] = {}
    for built in bundles:
        by_ecu.setdefault(built.job.ecu.name, []).append(built)
    choices = {
        "previous": [(_deltas(group) or group)[0] for group in by_ecu.values()],
        "oldest": [(_deltas(group) or group)[-1] for group in by_ecu.values()],
        "none": [next(built for built in group if built.job.old is None) for group in by_ecu.values()],
    }
    return tuple(_total(start, chosen) for start, chosen in choices.items())


def check_budgets(release: Release, bundles: Sequence[BuiltBundle]) -> None:
    """Hold every delta bundle against its ECU's share of the release's budgets.

    Raises:
        BudgetError: Shares are exceeded; the message lists all of them.
    """
    problems = []
    for built in _deltas(bundles):
        ecu = built.job.ecu
        most_bytes = release.budget_bytes * ecu.byte_share_percent // 100
        if built.bundle.length_bytes > most_bytes:
            problems.append(f"{built.job.title}: {built.bundle.length_bytes} bytes, its share is {most_bytes}")
        seconds = install_seconds(ecu, built.bundle.length_bytes, built.job.new.image.length_bytes)
        most_s = release.budget_s * ecu.time_share_percent / 100
        if seconds > most_s:
            problems.append(f"{built.job.title}: {seconds:.1f} s to install, its share is {most_s:.1f} s")
    if problems:
        raise BudgetError(
            "\n  ".join((f"release {release.name}: {len(problems)} shares of the budget are exceeded", *problems)),
            hint="raise the ECU's share or the budget in the release file",
        )


def report(release: Release, plan: Plan, bundles: Sequence[BuiltBundle], issued_at: datetime) -> dict[str, Any]:
    """Return the content of `report.json`."""
    return {
        "release": release.name,
        "version": release.version,
        "car_line": release.car_line,
        "issued_at": issued_at.isoformat(),
        "bundles": [_row(built) for built in bundles],
        "skipped": list(plan.notes),
        "cars": {
            total.start: {
                "bundle_bytes": total.bundle_bytes,
                "image_bytes": total.image_bytes,
                "install_seconds": round(total.install_s, 1),
                "fleet_cars": release.fleet_cars,
                "fleet_bytes": total.bundle_bytes * release.fleet_cars,
            }
            for total in car_totals(bundles)
        },
        "budget": {"bytes_per_car": release.budget_bytes, "seconds_per_car": release.budget_s},
    }


def measurements(bundles: Sequence[BuiltBundle], tools: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of `measurements.json`: what differs from run to run."""
    return {
        "tools": dict(tools),
        "bundles": {
            built.job.path: {
                "build_seconds": round(built.measured.seconds, 3),
                "peak_memory_bytes": built.measured.peak_bytes,
            }
            for built in bundles
        },
    }


def _row(built: BuiltBundle) -> dict[str, Any]:
    job = built.job
    return {
        "ecu": job.ecu.name,
        "hardware_id": job.ecu.hardware_id,
        "domain": job.ecu.domain,
        "old_version": None if job.old is None else job.old.source.version,
        "new_version": job.new.source.version,
        "release_counter": job.ecu.release_counter,
        "path": job.path,
        "image_bytes": job.new.image.length_bytes,
        "image_sha256": job.new.image.digest.hex,
        "bundle_bytes": built.bundle.length_bytes,
        "bundle_sha256": built.bundle.digest.hex,
        "head_bytes": built.head.length_bytes,
        "head_sha256": built.head.digest.hex,
        "percent": round(100 * built.bundle.length_bytes / job.new.image.length_bytes, 3),
        "vehicle_memory_bytes": built.memory_bytes,
        "blocks_by_form": dict(built.blocks_by_form),
        "download_seconds": {
            f"{mbit}_mbit_per_s": round(seconds_over(built.bundle.length_bytes, mbit), 3) for mbit in LINKS_MBIT_PER_S
        },
    }


def _deltas(bundles: Sequence[BuiltBundle]) -> list[BuiltBundle]:
    return [built for built in bundles if built.job.old is not None]


def _total(start: str, bundles: Sequence[BuiltBundle]) -> CarTotal:
    return CarTotal(
        start,
        sum(built.bundle.length_bytes for built in bundles),
        sum(built.job.new.image.length_bytes for built in bundles),
        sum(
            install_seconds(built.job.ecu, built.bundle.length_bytes, built.job.new.image.length_bytes)
            for built in bundles
        ),
    )
