"""The command line of the vehicle: ``packager-vehicle``.

With `cli_output` alone in this package to print, to read the clock and the environment, and to exit.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from packager.vehicle import kernel
from packager.vehicle.cli_output import PROGRAM, Output
from packager.vehicle.errors import (
    CancelledError,
    CorruptError,
    IncompatibleError,
    ResourceError,
    TemporaryError,
    UntrustedError,
    VehicleError,
)
from packager.vehicle.fetch import HttpFetcher, check_url
from packager.vehicle.home import ConfigurationError, VehicleHome, open_home
from packager.vehicle.identity import ImageId
from packager.vehicle.install import SPARE_SPACE_BYTES, EcuStatus, check, status, update
from packager.vehicle.metadata_store import initialise, refresh
from packager.vehicle.preflight import Forecast
from packager.vehicle.preparation import EcuUpdate
from packager.vehicle.targets import BundleTarget, ImageTarget
from packager.vehicle.trust import MAX_ROOT_BYTES, ExpiredError
from packager.vehicle.version import VERSION

MAX_WORKERS: Final = 4
_INTERRUPTED: Final = 130
_RATES_MBIT_PER_S: Final = (1, 10, 100)
_FAILURES: Final[tuple[tuple[type[VehicleError], int, str], ...]] = (
    (ConfigurationError, 2, "correct the configuration or the options, then run the command again"),
    (ExpiredError, 60, "check this machine's clock; if it is right, the repository must be renewed"),
    (UntrustedError, 60, "do not install from this repository; tell its operator"),
    (CorruptError, 60, "run the command again; if it fails at the same place, the server's file is damaged"),
    (IncompatibleError, 61, "check hardware id and profile in vehicle.toml against the release"),
    (ResourceError, 62, "make room or check the storage, then run the command again"),
    (TemporaryError, 75, "run the command again later; what was downloaded is kept"),
    (CancelledError, _INTERRUPTED, "run the command again; what was downloaded is kept"),
)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a command works with."""

    options: argparse.Namespace
    environment: Mapping[str, str]
    now: Callable[[], datetime]
    output: Output


class _Parser(argparse.ArgumentParser):
    """Reports wrong use like every other error."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError("options", [message])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run(arguments, os.environ, lambda: datetime.now(UTC), sys.stdout, sys.stderr)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    now: Callable[[], datetime],
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name.
        environment: Environment variables.
        now: The clock, UTC.
        stdout: Takes the result.
        stderr: Takes progress and errors.

    Returns:
        The exit code.
    """
    output = Output(stdout, stderr, as_json="--json" in arguments or bool(environment.get("PACKAGER_JSON")))
    try:
        options = _parser().parse_args(list(arguments))
        options.command(_Call(options, environment, now, output))
    except VehicleError as error:
        for kind, code, hint in _FAILURES:
            if isinstance(error, kind):
                return output.failure(code, str(error), hint)
        return _unexpected(output)
    except KeyboardInterrupt:
        return output.failure(_INTERRUPTED, "interrupted", "run the command again; what was downloaded is kept")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads; keep Python from trying at exit
        return 1
    except OSError as error:
        return output.failure(62, f"{error.filename or 'I/O'}: {error.strerror}", "make room or check the storage")
    except Exception:  # noqa: BLE001 - the outermost frame: everything ends as an exit code
        return _unexpected(output)
    return 0


def _unexpected(output: Output) -> int:
    return output.failure(
        1, f"unexpected error:\n{traceback.format_exc()}", "this is a defect; report it with the text above"
    )


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--home", metavar="DIR", help="the vehicle home [PACKAGER_VEHICLE_HOME]")
    shared.add_argument("--repo-url", metavar="URL", help="repository with metadata/ and targets/ [PACKAGER_REPO_URL]")
    shared.add_argument("--json", action="store_true", help="print one JSON object per line [PACKAGER_JSON]")
    parser: argparse.ArgumentParser = _Parser(
        PROGRAM, description="Verify and install updates in a vehicle home.", parents=[shared]
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION} ({kernel.NAME} kernel)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, command, text in (
        ("init", _init, "trust a root: the first step, once"),
        ("refresh", _refresh, "fetch and verify metadata, and tell what is offered"),
        ("status", _status, "tell what is installed"),
        ("update", _update, "install the newest image of every ECU, all or none"),
    ):
        subparser = commands.add_parser(name, help=text, description=text.capitalize() + ".", parents=[shared])
        subparser.set_defaults(command=command)
        if name == "status":
            text = "tell what an update would download and need, before it does; reads the repository"
            subparser.add_argument("--check", action="store_true", help=text)
        if name == "init":
            subparser.add_argument("root", metavar="ROOT.json", type=Path, help="the root of the repository")
    return parser


def _init(call: _Call) -> None:
    output, home = call.output, _home(call)
    try:
        with call.options.root.open("rb") as file:
            data = file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(str(call.options.root), [f"can't be read: {error.strerror}"]) from error
    with home.lock():
        root = initialise(home.metadata, data)
    output.line(f"root version {root.version} is trusted, valid until {root.expires:%Y-%m-%d}")
    output.summary(root_version=root.version, expires=f"{root.expires:%Y-%m-%dT%H:%M:%SZ}")


def _refresh(call: _Call) -> None:
    output, home = call.output, _home(call)
    url = _repository(call)
    rows = []
    with home.lock(), HttpFetcher(f"{url}/metadata") as fetcher:
        trusted = refresh(home.metadata, fetcher, call.now())
        for ecu in home.configuration.ecus:
            targets = trusted.delegations.of_hardware(ecu.hardware_id)
            images = [t for t in targets if isinstance(t, ImageTarget) and ecu.hardware_id in t.hardware_ids]
            newest = max(images, key=lambda image: image.release_counter, default=None)
            version = None if newest is None else newest.version
            counter = None if newest is None else newest.release_counter
            output.item("ecu", name=ecu.name, hardware_id=ecu.hardware_id, version=version, release_counter=counter)
            rows.append((ecu.name, ecu.hardware_id, version or "-", "-" if counter is None else str(counter)))
    output.table(("ECU", "hardware", "offered", "counter"), rows)
    output.line(
        f"metadata: root {trusted.root.version}, timestamp {trusted.timestamp.version}, "
        f"valid until {trusted.timestamp.expires:%Y-%m-%dT%H:%M:%SZ}"
    )
    output.summary(
        root_version=trusted.root.version,
        timestamp_version=trusted.timestamp.version,
        expires=f"{trusted.timestamp.expires:%Y-%m-%dT%H:%M:%SZ}",
    )


def _status(call: _Call) -> None:
    output, home = call.output, _home(call)
    if call.options.check:
        _check(call, home)
        return
    found = status(home)
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


def _check(call: _Call, home: VehicleHome) -> None:
    output = call.output
    url = _repository(call)
    with HttpFetcher(f"{url}/metadata") as metadata, HttpFetcher(f"{url}/targets") as targets:
        found = check(home, metadata, targets, call.now())
    for entry in found:
        image = entry.offer.image
        output.item(
            "ecu",
            name=entry.offer.ecu.name,
            hardware_id=entry.offer.ecu.hardware_id,
            old=_image_fields(entry.offer.installed),
            old_version=entry.offer.installed_version,
            new_version=image.version if image else None,
            bundle=_bundle_kind(entry.bundle),
            bundle_bytes=entry.bundle_bytes,
            repair_blocks=len(entry.damaged),
            repair_bytes=entry.repair_bytes,
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
    output.summary(
        vin=home.configuration.vin,
        ecus=len(found),
        problems=problems,
        download_bytes=download_bytes,
        needed_bytes=needed_bytes,
        free_bytes=free_bytes,
        enough_space=free_bytes >= needed_bytes,
        **{f"seconds_at_{rate}_mbit_per_s": seconds[rate] for rate in _RATES_MBIT_PER_S},
    )


def _check_row(entry: Forecast) -> tuple[str, ...]:
    image = entry.offer.image
    repair = f"{entry.repair_bytes:,} ({len(entry.damaged)} blocks)" if entry.damaged else "-"
    return (
        entry.offer.ecu.name,
        _image_name(entry.offer.installed, entry.offer.installed_version),
        _image_name(image.image, image.version) if image else "-",
        _bundle_kind(entry.bundle) or "-",
        f"{entry.download_bytes:,}",
        repair,
        f"{entry.space_bytes:,}",
        f"can't be updated: {entry.problem}" if entry.problem else entry.note,
    )


def _update(call: _Call) -> None:
    output, home = call.output, _home(call)
    url = _repository(call)
    with HttpFetcher(f"{url}/metadata") as metadata, HttpFetcher(f"{url}/targets") as targets:
        workers = min(os.cpu_count() or 1, MAX_WORKERS)
        report = update(home, metadata, targets, call.now(), workers=workers, on_progress=output.progress)
    output.end_progress()
    for entry in report.ecus:
        image = entry.offer.image
        output.item(
            "ecu",
            name=entry.offer.ecu.name,
            hardware_id=entry.offer.ecu.hardware_id,
            old=_image_fields(entry.offer.installed),
            old_version=entry.offer.installed_version,
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
    output.summary(
        vin=home.configuration.vin,
        ecus=len(report.ecus),
        updated=updated,
        downloaded_bytes=downloaded_bytes,
        metadata_bytes=report.metadata_bytes,
        seconds=round(report.seconds, 3),
    )


def _update_row(entry: EcuUpdate) -> tuple[str, ...]:
    image = entry.offer.image
    share = f"{entry.downloaded_bytes / image.image.length_bytes:.1%}" if image and entry.is_updated else "-"
    return (
        entry.offer.ecu.name,
        _image_name(entry.offer.installed, entry.offer.installed_version),
        _image_name(image.image, image.version) if image else "-",
        _kind(entry) or "-",
        f"{entry.downloaded_bytes:,}",
        share,
        f"{entry.seconds:.2f}",
        entry.note,
    )


def _kind(entry: EcuUpdate) -> str | None:
    return _bundle_kind(entry.bundle)


def _bundle_kind(bundle: BundleTarget | None) -> str | None:
    if bundle is None:
        return None
    return "full" if bundle.old is None else "delta"


def _home(call: _Call) -> VehicleHome:
    path = getattr(call.options, "home", None) or call.environment.get("PACKAGER_VEHICLE_HOME")
    if not path:
        raise ConfigurationError("options", ["--home is missing; expected the directory of vehicle.toml"])
    return open_home(Path(path))


def _repository(call: _Call) -> str:
    url = getattr(call.options, "repo_url", None) or call.environment.get("PACKAGER_REPO_URL")
    if not url:
        raise ConfigurationError("options", ["--repo-url is missing; expected the URL above metadata/ and targets/"])
    try:
        return check_url(url).rstrip("/")
    except ValueError as error:
        raise ConfigurationError("--repo-url", [str(error)]) from error


def _image_name(image: ImageId | None, version: str | None) -> str:
    if image is None:
        return "empty"
    return version or f"{image.digest.algorithm}:{image.digest.hex[:12]}"


def _image_fields(image: ImageId | None) -> dict[str, Any] | None:
    return None if image is None else {"length": image.length_bytes, image.digest.algorithm: image.digest.hex}


if __name__ == "__main__":
    sys.exit(main())
