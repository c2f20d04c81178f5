"""The command line of the build side: the only package that knows click, prints or exits."""

import sys
from typing import Final

import click

from packager.cli.failure import end, heed_signals, run
from packager.cli.on_demand import OnDemand
from packager.diff import matcher
from packager.vehicle import kernel
from packager.vehicle.version import VERSION

EPILOG = """Exit codes: 0 ok; 1 unexpected; 2 usage or configuration; 10 input image; 20 over budget; 30 key; 40 repository;
50 supply chain; 60 verification failed; 61 incompatible; 62 space, memory or I/O; 75 temporary, try again; 130 interrupted
(129, 143: by SIGHUP, SIGTERM).
Every option can be given as an environment variable, PACKAGER_<COMMAND>_<OPTION>."""


MODULES: Final = {
    "build": "build",
    "diff": "files",
    "apply": "files",
    "inspect": "inspection",
    "verify": "verify",
    "keys": "keys",
    "repo": "repo",
    "chain": "chain",
}


@click.group(
    commands=OnDemand(MODULES, "PACKAGER"),
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(VERSION, message=f"packager {VERSION} (decoding kernel: {kernel.DESCRIPTION})")
def packager() -> None:
    """Make delta updates for cars: diff, bundle, sign, verify."""


def main() -> None:
    """Entry point of `packager`."""
    heed_signals()
    if kernel.IS_UNEXPECTED:
        click.echo(f"packager: {kernel.DESCRIPTION}", err=True)
    if matcher.PROBLEM:
        click.echo(f"packager: {matcher.PROBLEM}; bundles are larger without it", err=True)
    end(run(packager, sys.argv[1:], "packager"))
