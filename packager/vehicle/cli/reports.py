"""Puts the results of the vehicle's commands in words: a table and sentences for people, objects for programs."""

from collections.abc import Sequence
from typing import Any, Final

from packager.vehicle.cli.output import Output
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import VehicleHome
from packager.vehicle.installation.install import SPARE_SPACE_BYTES, CheckReport, UpdateReport
from packager.vehicle.installation.inventory import EcuStatus
from packager.vehicle.installation.preflight import Forecast
from packager.vehicle.installation.preparation import EcuUpdate
from packager.vehicle.installation.selection import Offer
from packager.vehicle.transport.speed import Speed
from packager.vehicle.trust.metadata_store import TrustedMetadata

_RATES_MBIT_PER_S: Final = (1, 10, 100)


def show_status(output: Output, home: VehicleHome, found: Sequence[EcuStatus]) -> None:
    """Show what is installed."""
    for entry in found:
        output.item(
            "ecu",
            name=entry.ecu.name,
            serial=entry.ecu.serial,
            hardware_id=entry.ecu.hardware_id,
            slot=entry.state.slot,
            release_counter=entry.state.release_counter,
            installed=_image_fields(entry.installed),
            version=entry.version,
            interrupted=entry.is_interrupted,
            startable=entry.is_startable,
        )
    output.table(
        ("ECU", "hardware", "slot", "installed", "bytes", "counter", ""), [_status_row(entry) for entry in found]
    )
    output.summary(vin=home.configuration.vin, ecus=len(found))


def show_refresh(
    output: Output,
    home: VehicleHome,
    trusted: TrustedMetadata,
    targets: Sequence[Sequence[ImageTarget | BundleTarget]],
    clock_note: str,
) -> None:
    """Show what is offered: `targets` has those of each ECU's hardware, in the order of ``vehicle.toml``."""
    rows = []
    for ecu, offered in zip(home.configuration.ecus, targets, strict=True):
        images = [t for t in offered if isinstance(t, ImageTarget) and ecu.hardware_id in t.hardware_ids]
        newest = max(images, key=lambda image: image.release_counter, default=None)
        version = None if newest is None else newest.version
        counter = None if newest is None else newest.release_counter
        output.item("ecu", name=ecu.name, hardware_id=ecu.hardware_id, version=version, release_counter=counter)
        rows.append((ecu.name, ecu.hardware_id, version or "-", "-" if counter is None else str(counter)))
    output.table(("ECU", "hardware", "offered", "counter"), rows)
    expires = f"{trusted.timestamp.expires:%Y-%m-%dT%H:%M:%SZ}"
    output.line(f"metadata: root {trusted.root.version}, timestamp {trusted.timestamp.version}, valid until {expires}")
    if clock_note:
        output.line(f"clock: {clock_note}")
    output.summary(
        clock=clock_note or None,
        root_version=trusted.root.version,
        timestamp_version=trusted.timestamp.version,
        expires=expires,
    )


def show_slow_update(output: Output, home: VehicleHome, speed: Speed) -> None:
    """Show what was measured of a repository that was given up for being too slow; the error follows."""
    output.line(
        f"the repository delivered {speed.received_bytes:,} bytes in {speed.waited_s:.1f} s, "
        f"{speed.slowest_bytes_per_second:,} bytes/s at the slowest, expected at least {home.configuration.min_bytes_per_second:,}"
    )
    output.item(
        "speed",
        received_bytes=speed.received_bytes,
        bytes_per_second=speed.bytes_per_second,
        slowest_bytes_per_second=speed.slowest_bytes_per_second,
        min_bytes_per_second=home.configuration.min_bytes_per_second,
    )


def show_check(output: Output, home: VehicleHome, report: CheckReport) -> None:
    """Show what an update would download and need."""
    found = report.ecus
    for entry in found:
        image = entry.offer.image
        output.item(
            "ecu",
            **_old_fields(entry.offer),
            new_version=image.version if image else None,
            bundle=_bundle_kind(entry.bundle),
            bundle_bytes=entry.bundle_bytes,
            repair_blocks=len(entry.damaged),
            repair_bytes=entry.repair_bytes,
            survey_bytes=entry.survey_bytes,
            download_bytes=entry.download_bytes,
            space_bytes=entry.space_bytes,
            note=entry.note,
            problem=entry.problem,
        )
    headers = ("ECU", "old", "new", "bundle", "download", "of it repair", "space", "")
    output.table(headers, [_check_row(entry) for entry in found])
    download_bytes = sum(entry.download_bytes for entry in found)
    needed_bytes = sum(entry.space_bytes for entry in found)
    needed_bytes += SPARE_SPACE_BYTES if any(entry.bundle for entry in found) else 0
    free_bytes = home.free_bytes()
    seconds = {rate: round(download_bytes * 8 / (rate * 1e6), 1) for rate in _RATES_MBIT_PER_S}
    output.line(
        f"download {download_bytes:,} bytes: "
        + ", ".join(f"{seconds[rate]:,} s at {rate} Mbit/s" for rate in _RATES_MBIT_PER_S)
    )
    verdict = "enough" if free_bytes >= needed_bytes else f"make room for {needed_bytes - free_bytes:,} bytes more"
    output.line(f"space {needed_bytes:,} bytes, {free_bytes:,} free: {verdict}")
    problems = sum(bool(entry.problem) for entry in found)
    if problems:
        output.line(f"{problems} of {len(found)} ECUs can't be updated")
    if report.clock_note:
        output.line(f"clock: {report.clock_note}")
    output.summary(
        vin=home.configuration.vin,
        ecus=len(found),
        problems=problems,
        download_bytes=download_bytes,
        needed_bytes=needed_bytes,
        free_bytes=free_bytes,
        enough_space=free_bytes >= needed_bytes,
        clock=report.clock_note or None,
        **{f"seconds_at_{rate}_mbit_per_s": seconds[rate] for rate in _RATES_MBIT_PER_S},
    )


def show_update(output: Output, home: VehicleHome, report: UpdateReport) -> None:
    """Show what an update did."""
    for entry in report.ecus:
        image = entry.offer.image
        output.item(
            "ecu",
            **_old_fields(entry.offer),
            new=_image_fields(image.image if image else None),
            new_version=image.version if image else None,
            updated=entry.is_updated,
            bundle=_kind(entry),
            downloaded_bytes=entry.downloaded_bytes,
            repaired_blocks=entry.repaired_blocks,
            seconds=round(entry.seconds, 3),
            note=entry.note,
        )
    headers = ("ECU", "old", "new", "bundle", "downloaded", "of image", "seconds", "")
    output.table(headers, [_update_row(entry) for entry in report.ecus])
    updated = sum(entry.is_updated for entry in report.ecus)
    downloaded_bytes = sum(entry.downloaded_bytes for entry in report.ecus)
    output.line(
        f"{updated} of {len(report.ecus)} ECUs updated, {downloaded_bytes:,} bytes of bundles and "
        f"{report.metadata_bytes:,} of metadata in {report.seconds:.1f} s"
    )
    if report.speed.bytes_per_second is not None:
        output.line(f"the repository delivered {report.speed.bytes_per_second:,} bytes/s")
    if report.clock_note:
        output.line(f"clock: {report.clock_note}")
    output.summary(
        vin=home.configuration.vin,
        ecus=len(report.ecus),
        updated=updated,
        downloaded_bytes=downloaded_bytes,
        metadata_bytes=report.metadata_bytes,
        bytes_per_second=report.speed.bytes_per_second,
        slowest_bytes_per_second=report.speed.slowest_bytes_per_second,
        clock=report.clock_note or None,
        seconds=round(report.seconds, 3),
    )


def _status_row(entry: EcuStatus) -> tuple[str, ...]:
    return (
        entry.ecu.name,
        entry.ecu.hardware_id,
        entry.state.slot,
        _image_name(entry.installed, entry.version),
        f"{entry.installed.length_bytes:,}" if entry.installed else "-",
        str(entry.state.release_counter),
        _interruption(entry),
    )


def _interruption(entry: EcuStatus) -> str:
    if not entry.is_startable:
        return "half overwritten: must not be started, run update"
    return "update interrupted" if entry.is_interrupted else ""


def _check_row(entry: Forecast) -> tuple[str, ...]:
    repair = f"{entry.repair_bytes:,} ({len(entry.damaged)} blocks)" if entry.damaged else "-"
    return (
        *_names(entry.offer),
        _bundle_kind(entry.bundle) or "-",
        f"{entry.download_bytes:,}",
        repair,
        f"{entry.space_bytes:,}",
        f"can't be updated: {entry.problem}" if entry.problem else entry.note,
    )


def _update_row(entry: EcuUpdate) -> tuple[str, ...]:
    image = entry.offer.image
    share = f"{entry.downloaded_bytes / image.image.length_bytes:.1%}" if image and entry.is_updated else "-"
    return (
        *_names(entry.offer),
        _kind(entry) or "-",
        f"{entry.downloaded_bytes:,}",
        share,
        f"{entry.seconds:.2f}",
        entry.note,
    )


def _old_fields(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.ecu.name,
        "hardware_id": offer.ecu.hardware_id,
        "old": _image_fields(offer.installed),
        "old_version": offer.installed_version,
    }


def _names(offer: Offer) -> tuple[str, str, str]:
    """Return the first cells of a row: the ECU, its old image, and its new one."""
    old = _image_name(offer.installed, offer.installed_version)
    return offer.ecu.name, old, _image_name(offer.image.image, offer.image.version) if offer.image else "-"


def _kind(entry: EcuUpdate) -> str | None:
    return _bundle_kind(entry.bundle)


def _bundle_kind(bundle: BundleTarget | None) -> str | None:
    if bundle is None:
        return None
    return "full" if bundle.old is None else "delta"


def _image_name(image: ImageId | None, version: str | None) -> str:
    if image is None:
        return "empty"
    return version or f"{image.digest.algorithm}:{image.digest.hex[:12]}"


def _image_fields(image: ImageId | None) -> dict[str, Any] | None:
    return None if image is None else {"length": image.length_bytes, image.digest.algorithm: image.digest.hex}
