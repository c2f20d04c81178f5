"""`packager chain`: steps of the company's own before a build, the release gate, and the check of a supply chain alone."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from packager.cli.keys import DIRECTORY as KEYS
from packager.cli.keys import KEYS_DIRECTORY
from packager.cli.options import JSON, PATH, read_root_file
from packager.cli.output import Output
from packager.cli.secrets import ask_secret
from packager.cli.times import AS_OF, as_of, now
from packager.cli.verify import DIRECTORY
from packager.config.policy import read_policy
from packager.model.errors import SpaceError
from packager.pipeline.gate import approve_release
from packager.pipeline.verify import verify_evidence
from packager.repo.authority import Authority
from packager.repo.files import write_once
from packager.repo.keys import is_here, load_public_keys, load_signer, load_signers
from packager.supplychain.front import perform, read_links, run_command

FILE_MODE = 0o644
STDERR = 2


class Named(click.ParamType[tuple[str, str]]):
    """``NAME=PATH`` or the like; `form` says which."""

    def __init__(self, form: str) -> None:
        self.name = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first ``=``."""
        name, _, rest = str(value).partition("=")
        if not name or not rest:
            self.fail(f"found {value!r}, expected {self.name}", param, ctx)
        return name, rest


@click.group()
def chain() -> None:
    """Perform, approve and verify the steps of a supply chain."""


@chain.command()
@click.argument("step", metavar="STEP")
@click.argument("command", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@KEYS
@click.option(
    "--links",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory with the links of the steps before; gets the new one.",
)
@click.option("--material", "materials", type=Named("NAME=PATH"), multiple=True, help="What is used; may be repeated.")
@click.option("--product", "products", type=Named("NAME=PATH"), multiple=True, help="What is made; may be repeated.")
@click.option(
    "--tool", "tools", type=Named("NAME=VERSION"), multiple=True, help="A tool, for the record; may be repeated."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds. Default: no limit.")
@JSON
def run(
    *,
    step: str,
    command: Sequence[str],
    directory: Path,
    links: Path,
    materials: Sequence[tuple[str, str]],
    products: Sequence[tuple[str, str]],
    tools: Sequence[tuple[str, str]],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Perform STEP, one of the policy's own: check what it uses, run COMMAND, and sign what it made.

    Names of artifacts begin with input/ (from outside), work/ (between steps) or are images/HARDWARE/VERSION/image.
    COMMAND runs where you stand, with its output on stderr. If it fails, nothing is signed.
    """
    output = Output(as_json)
    policy = read_policy(directory / "policy.toml")
    role = policy.steps.get(step)
    here = [name for name in (role.keys if role else ()) if is_here(directory, name)]
    sys.stdout.flush()
    made = perform(
        step,
        policy,
        load_public_keys(policy, directory),
        {name: load_signer(directory, name, ask_secret) for name in here},
        read_links(links),
        {name: Path(path) for name, path in materials},
        {name: Path(path) for name, path in products},
        command,
        tools=dict(tools),
        timeout_s=timeout,
        run=lambda words, timeout_s: run_command(words, timeout_s, STDERR),
    )
    try:
        links.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            write_once(links / name, data, FILE_MODE)
    except OSError as error:
        raise SpaceError(
            f"{links}: a link can't be written: {error}", hint="remove the link of an earlier try"
        ) from error
    output.result("summary", f"step {step}: signed {', '.join(made)}", step=step, links=sorted(made))


@chain.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@KEYS_DIRECTORY
@AS_OF
@JSON
def approve(*, directory: Path, keys_directory: Path, issued_at: datetime | None, as_json: bool) -> None:
    """Act as the release gate: verify the supply chain of the release in DIR, and sign for the cars that it holds."""
    output = Output(as_json)
    policy = read_policy(keys_directory / "policy.toml")
    signers = load_signers(keys_directory, [policy.gate] if policy.gate else [], ask_secret)
    authority = Authority(policy, load_public_keys(policy, keys_directory), signers, b"")
    made = approve_release(directory, authority, as_of(issued_at))
    for path in made:
        output.result("approved", f"ok  {path}", path=path)
    text = f"{len(made)} domains are approved" if made else "the supply chain holds; the policy has no release gate"
    output.result("summary", f"{directory}: {text}", summaries=list(made))


@chain.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--root", type=PATH, required=True, help="The root metadata that you trust.")
@JSON
def verify(*, directory: Path, root: Path, as_json: bool) -> None:
    """Check the supply chain in DIR and all that is said of it, offline, without applying a bundle."""
    output = Output(as_json)
    _, chains = verify_evidence(directory, read_root_file(root), now())
    for name, found in chains.items():
        steps = ", ".join(found.links)
        text = f"ok  {name}: {steps}; {len(found.targets)} bundles"
        output.result("chain", text, release=name, steps=list(found.links), bundles=len(found.targets))
    output.result("summary", f"{directory}: {len(chains)} supply chains hold", chains=len(chains), verified=True)
