"""The command line of the build side: the only package that knows click, prints or exits."""

import sys

import click

from packager.cli.build import build
from packager.cli.chain import chain
from packager.cli.failure import end, run
from packager.cli.files import apply, diff, inspect
from packager.cli.keys import keys
from packager.cli.repo import repo
from packager.cli.verify import verify
from packager.diff import matcher
from packager.vehicle import kernel
from packager.vehicle.version import VERSION

EPILOG = """Exit codes: 0 ok; 1 unexpected; 2 usage or configuration; 10 input image; 20 over budget; 30 key; 40 repository;
50 supply chain; 60 verification failed; 61 incompatible; 62 space, memory or I/O; 75 temporary, try again; 130 interrupted.
Every option can be given as an environment variable, PACKAGER_<COMMAND>_<OPTION>."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, message=f"packager {VERSION} (decoding kernel: {kernel.DESCRIPTION})")
def packager() -> None:
    """Make delta updates for cars: diff, bundle, sign, verify."""


for command in (build, diff, apply, inspect, verify, keys, repo, chain):
    packager.add_command(command)


def main() -> None:
    """Entry point of `packager`."""
    if kernel.IS_UNEXPECTED:
        click.echo(f"packager: {kernel.DESCRIPTION}", err=True)
    if matcher.PROBLEM:
        click.echo(f"packager: {matcher.PROBLEM}; bundles are larger without it", err=True)
    end(run(packager, sys.argv[1:], "packager"))
