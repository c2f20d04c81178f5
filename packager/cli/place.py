"""The repository that a command works on, and what it is judged by: arguments and options that the commands of `packager repo` share."""

from datetime import datetime
from pathlib import Path
from typing import Final

import click

from packager.cli.options import PATH, read_root_file
from packager.config.policy import read_policy
from packager.pipeline.repository import Place
from packager.repo.keys import load_public_keys, root_path

REPOSITORY: Final = click.argument("repository", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
ROOT: Final = click.option(
    "--root", "root_file", type=PATH, help="The root that you trust. Default: public/root.json of the keys, if there."
)
WARN_DAYS: Final = click.option(
    "--warn-days",
    type=click.IntRange(0, 3650),
    help="How long before its expiry a role is due. Default: in the last quarter of its life.",
)


def open_place(repository: Path, directory: Path, root_file: Path | None, now: datetime) -> Place:
    """Read policy, public keys and the trusted root.

    Raises:
        ConfigError: The policy is wrong.
        KeyMaterialError: A public key is missing.
    """
    policy = read_policy(directory / "policy.toml")
    if root_file is None and root_path(directory).exists():
        root_file = root_path(directory)
    anchor = None if root_file is None else read_root_file(root_file)
    return Place(repository, policy, load_public_keys(policy, directory), now, anchor)
