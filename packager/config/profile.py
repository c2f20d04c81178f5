"""Reads the profile of one ECU from a file of its own: what `packager diff --profile` is given for two files alone."""

from pathlib import Path

from packager.config.document import read_document, refuse
from packager.vehicle.profile import UpdateProfile, read_profile
from packager.vehicle.table import Table


def read_profile_file(path: Path) -> UpdateProfile:
    """Read a TOML file with a table ``[profile]``, whose keys are those of ``[ecu.profile]`` in a release file.

    Raises:
        ConfigError: It can't be read, or breaks a rule; `problems` lists all of them.
    """
    problems: list[str] = []
    values, _ = read_document(path, "profile")
    root = Table(values, "", problems)
    profile = read_profile(root.table("profile"))
    root.end()
    refuse(f"profile {path}", problems)
    return profile
