"""`packager repo sign`: a custodian sees what changes, confirms the SHA-256, and adds one signature."""

import sys
from pathlib import Path

import click
from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from packager.cli.keys import DIRECTORY
from packager.cli.options import JSON
from packager.cli.output import Output
from packager.cli.repo_names import key_labels
from packager.cli.secrets import ask_secret
from packager.config.policy import read_policy
from packager.model.errors import ConfigError, KeyMaterialError, RepositoryError
from packager.repo.custody import append_signature, find_allowed
from packager.repo.difference import describe
from packager.repo.in_force import InForce, read_in_force
from packager.repo.keys import load_public_keys, load_signer
from packager.repo.signers import import_public, open_signer
from packager.repo.staged import STAGED, StagedFile, demands, label, labels, read_file, read_staged

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--key", required=True, metavar="NAME|URI", help="The key: its name in the policy, or where it lies.")
@DIRECTORY
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    help="What is in force: the repository, or the metadata file of the version before. Default: the repository of FILE.",
)
@click.option("--sha256", metavar="HEX", help="Sign without asking if the bytes to be signed have this SHA-256.")
@JSON
def sign(*, file: Path, key: str, directory: Path, against: Path | None, sha256: str | None, as_json: bool) -> None:
    """Show how FILE differs from what is in force, and add one signature to it.

    FILE may have come by mail or on a stick: nothing in it is trusted, and all of it is shown. Compare the SHA-256 with the other
    custodians in another way. Other signatures stay.
    """
    output = Output(as_json)
    shown = read_file(file)
    in_force, old, origin = _find_old(file, shown, against)
    names = key_labels(directory)
    signer = _open(directory, key)
    name = names.get(signer.public_key.keyid, key)
    staged = read_staged(file.parent.parent) if file.parent.name == str(STAGED) else {shown.role: shown}
    policy = read_policy(directory / "policy.toml")
    top = staged["targets"].metadata.claimed if "targets" in staged else None
    allowed = find_allowed(
        shown, policy, load_public_keys(policy, directory), in_force, top if isinstance(top, Targets) else None
    )
    if signer.public_key.keyid not in allowed:
        expected = ", ".join(sorted(label(key_id, names) for key_id in allowed))
        raise KeyMaterialError(
            f"{shown.name}: key {name!r} may not sign for {shown.role!r}, expected one of {expected}",
            hint="packager repo status says who is missing",
        )
    differences = describe(old.metadata.claimed if old else None, shown.metadata.claimed, names)
    text = "\n".join(
        [
            f"{shown.name}: {shown.role} version {shown.version}, compared with {origin}",
            *(f"  {line}" for line in differences),
            f"SHA-256 of the bytes to be signed: {shown.digest.hex}",
        ]
    )
    output.result(
        "proposal",
        text,
        file=shown.name,
        role=shown.role,
        version=shown.version,
        against=origin,
        differences=differences,
        sha256=shown.digest.hex,
    )
    _confirm(shown, name, sha256)
    is_new = append_signature(file, shown, signer)
    after = read_file(file)
    states = [
        f"{demand.by} asks for {demand.role.threshold}, has {len(demand.signed)} ({labels(demand.signed, names) or 'nobody'})"
        for demand in demands(after, {**staged, shown.role: after}, in_force)
    ]
    done = f"signed by {name}" if is_new else f"had the signature of {name} already"
    output.result(
        "summary",
        "; ".join([f"{file}: {done}", *states]),
        file=str(file),
        key=name,
        is_new=is_new,
        signatures=len(after.metadata.signatures),
    )


def _confirm(shown: StagedFile, name: str, sha256: str | None) -> None:
    if sha256 is not None:
        if sha256.lower().removeprefix("sha256:") != shown.digest.hex:
            raise RepositoryError(
                f"{shown.name}: found SHA-256 {shown.digest.hex} of the bytes to be signed, expected {sha256}",
                hint="this is another file than the one that was agreed on; do not sign it",
            )
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{shown.name}: found no terminal to confirm at, expected one",
            hint=f"--sha256 {shown.digest.hex} signs without asking",
        )
    click.confirm(f"Sign as {name}?", abort=True, err=True)


def _find_old(file: Path, shown: StagedFile, against: Path | None) -> tuple[InForce, StagedFile | None, str]:
    if against is None and file.parent.name == str(STAGED):
        against = file.absolute().parent.parent
    if against is None:
        return InForce(), None, "nothing: no version in force is at hand (--against)"
    if against.is_file():
        old = read_file(against)
        if old.role != shown.role or old.version >= shown.version:
            raise RepositoryError(
                f"{against}: is {old.role} version {old.version}, expected an older version of {shown.role}"
            )
        return InForce(), old, f"version {old.version} in {against}"
    in_force = read_in_force(against)
    data = in_force.files.get(shown.role)
    if data is None:
        return in_force, None, f"nothing: {against} has no {shown.role} in force"
    version = in_force.payloads[shown.role].version
    name = f"{version}.{shown.role}.json"
    return in_force, read_file(against / "repo/metadata" / name), f"version {version}, in force in {against}"


def _open(directory: Path, key: str) -> Signer:
    if ":" not in key:
        return load_signer(directory, key, ask_secret)
    _, public = import_public(key, ask_secret)
    return open_signer(key, public, ask_secret)
