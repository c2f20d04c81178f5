"""`packager repo`: a repository's life: propose, sign from hand to hand, publish, refresh, and see what is missing."""

from typing import Final

import click

from packager.cli.on_demand import OnDemand

MODULES: Final = {
    "init": "repo_life",
    "propose": "repo_life",
    "sign": "repo_sign",
    "publish": "repo_life",
    "refresh": "repo_life",
    "status": "repo_status",
}


@click.group(commands=OnDemand(MODULES, "PACKAGER_REPO"))
def repo() -> None:
    """Keep a repository: DIR/repo is served, proposals to be signed lie in DIR/staged.

    propose stages what has to be signed, each custodian signs, publish makes it take force. refresh runs daily.
    """
