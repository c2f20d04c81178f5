"""Reads a release file: TOML in, a checked `Release` out, or all of its problems at once."""

from pathlib import Path

from packager.config.document import read_document, refuse
from packager.model.release import DEFAULT_REPAIR_PERCENT, EcuRelease, ImageSource, Release, Speeds
from packager.vehicle.core.manifest import MAX_RELEASE_COUNTER
from packager.vehicle.identity import Digest
from packager.vehicle.profile import KIB, MIB, read_profile
from packager.vehicle.table import MAX_NAME_CHARACTERS, Table, is_name

MAX_SPEED_KIB_PER_S = 1 << 30


def read_release(path: Path) -> tuple[Release, Digest]:
    """Read a release file; image paths in it are relative to it.

    Returns:
        What it says, and the digest of the bytes that say so.

    Raises:
        ConfigError: It can't be read, or breaks a rule; `problems` lists all of them.
    """
    problems: list[str] = []
    values, raw = read_document(path, "release file")
    root = Table(values, "", problems)
    release = root.table("release")
    repair_percent = release.integer("repair_percent", least=0, most=100, default=DEFAULT_REPAIR_PERCENT)
    budget = root.table("budget")
    ecus = tuple(_read_ecu(table, path.parent, repair_percent) for table in root.tables("ecu"))
    root.end()
    result = Release(
        name=release.text("name"),
        version=release.text("version"),
        car_line=release.text("car_line"),
        fleet_cars=release.integer("fleet_cars", least=1, most=10**9),
        budget_bytes=budget.integer("mib_per_car", least=1, most=1 << 20) * MIB,
        budget_s=budget.integer("seconds_per_car", least=1, most=10**6),
        ecus=tuple(sorted(ecus, key=lambda ecu: ecu.name)),
    )
    if result.version and not is_name(result.id):
        release.problem(
            f"version: found {result.version!r}, expected at most {MAX_NAME_CHARACTERS} characters, a letter or digit first"
        )
    release.end()
    budget.end()
    problems += _problems_across(result)
    refuse(f"release file {path}", problems)
    return result, Digest.of(raw)


def _read_ecu(table: Table, directory: Path, repair_percent: int) -> EcuRelease:
    name = table.name("name")
    table.rename(f"ecu {name or '?'}")
    new = _read_image(table, directory)
    old = []
    for entry in table.tables("old"):
        old.append(_read_image(entry, directory))
        entry.end()
    versions = [new.version, *(image.version for image in old)]
    for version in sorted({version for version in versions if version and versions.count(version) > 1}):
        table.problem(f"version {version} is listed {versions.count(version)} times, expected once")
    ecu = EcuRelease(
        name=name,
        role=table.text("role"),
        hardware_id=table.name("hardware_id"),
        supplier=table.text("supplier"),
        domain=table.name("domain"),
        release_counter=table.integer("release_counter", least=1, most=MAX_RELEASE_COUNTER),
        new=new,
        old=tuple(old),
        profile=read_profile(table.table("profile")),
        speeds=Speeds(
            table.integer("bus_kib_per_s", least=1, most=MAX_SPEED_KIB_PER_S) * KIB,
            table.integer("flash_kib_per_s", least=1, most=MAX_SPEED_KIB_PER_S) * KIB,
        ),
        byte_share_percent=table.integer("byte_share_percent", least=1, most=100),
        time_share_percent=table.integer("time_share_percent", least=1, most=100),
        repair_percent=table.integer("repair_percent", least=0, most=100, default=repair_percent),
    )
    table.end()
    return ecu


def _read_image(table: Table, directory: Path) -> ImageSource:
    return ImageSource(table.name("version"), directory / table.text("image"))


def _problems_across(release: Release) -> list[str]:
    """Return the problems that no ECU has alone."""
    problems = []
    if not release.ecus:
        problems.append("no [[ecu]]; expected at least one")
    for what, values in (
        ("name", [ecu.name for ecu in release.ecus]),
        ("hardware_id", [ecu.hardware_id for ecu in release.ecus]),
    ):
        problems += [
            f"{what} {value} belongs to {values.count(value)} ECUs, expected one"
            for value in sorted({value for value in values if value and values.count(value) > 1})
        ]
    for what, total in (
        ("byte_share_percent", sum(ecu.byte_share_percent for ecu in release.ecus)),
        ("time_share_percent", sum(ecu.time_share_percent for ecu in release.ecus)),
    ):
        if total > 100:
            problems.append(f"{what} of all ECUs: found {total}, expected at most 100")
    return problems
