"""`packager keys`: make the key pairs of a policy and the first root, take in keys that lie elsewhere, and show who they are."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from packager.cli.options import JSON
from packager.cli.output import Output, table
from packager.cli.secrets import ask_new_passphrase, ask_secret
from packager.cli.times import ISSUED_AT, issue_time
from packager.config.policy import read_policy
from packager.model.errors import KeyMaterialError
from packager.model.policy import KeyPolicy, key_names
from packager.repo.ceremony import create_root
from packager.repo.key_creation import add_key, create_keys
from packager.repo.keys import is_demo, is_here, key_uri, load_public, public_path, root_path
from packager.repo.schemes import fingerprint, pem, scheme_of


def _keys_option(parameter: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option that names the directory of the keys, for a command that calls it `parameter`."""
    return click.option(
        "--keys",
        parameter,
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("keys"),
        show_default=True,
        help="Directory with policy.toml, private/ and public/.",
    )


DIRECTORY = _keys_option("directory")
KEYS_DIRECTORY = _keys_option("keys_directory")


@click.group()
def keys() -> None:
    """Create, add, list and show the keys of a policy.

    Passphrases and PINs are asked for at the terminal, or read from the files that PACKAGER_PASSPHRASE_FILE and PACKAGER_PIN_FILE name.
    """


@keys.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@DIRECTORY
@ISSUED_AT
@JSON
def create(*, names: Sequence[str], directory: Path, issued_at: datetime | None, as_json: bool) -> None:
    """Create key pairs: all that are missing, or those named. Nothing that exists is overwritten.

    Private keys are protected with a passphrase each, unless the policy is a demo. For a demo, version 1 of the root is made, too;
    otherwise its holders sign it.
    """
    output = Output(as_json)
    policy = read_policy(directory / "policy.toml")
    made = create_keys(policy, directory, names, ask_new_passphrase)
    kind = "demo keys" if policy.demo else "keys"
    text = f"{directory}: {len(made.created)} {kind} created, {len(made.existing)} there already"
    root: dict[str, Any] = {}
    if policy.demo and not names:
        new_root = create_root(policy, directory, issue_time(issued_at))
        text += f"; root {root_path(directory)} {'created' if new_root else 'there already'}"
        root = {"root": str(root_path(directory)), "root_created": new_root}
    created, existing = list(made.created), list(made.existing)
    output.result("summary", text, created=created, existing=existing, **root, demo=policy.demo)


@keys.command()
@click.argument("name")
@click.option(
    "--uri",
    required=True,
    metavar="URI",
    help="Where the private half lies: file:PATH, hsm:ID?label=TOKEN, awskms:KEY, ...",
)
@DIRECTORY
@JSON
def add(*, name: str, uri: str, directory: Path, as_json: bool) -> None:
    """Take in the public half of a key that lies elsewhere: on a token, in a key service, in another file."""
    output = Output(as_json)
    policy = read_policy(directory / "policy.toml")
    kept, _ = add_key(policy, directory, name, uri, ask_secret)
    fields = _describe(policy, directory, name)
    text = f"{public_path(directory, name)}: {fields['scheme']}, fingerprint {fields['fingerprint']}"
    output.result("summary", text, **{**fields, "uri": kept})


@keys.command(name="list")
@DIRECTORY
@JSON
def list_keys(*, directory: Path, as_json: bool) -> None:
    """List the keys of the policy: who they are, and whether this machine can sign with them."""
    output = Output(as_json)
    policy = read_policy(directory / "policy.toml")
    rows, missing = [], 0
    for name in key_names(policy):
        if not public_path(directory, name).exists():
            output.result("missing_key", name=name)
            rows.append([name, policy.schemes.get(name, ""), "missing", "", ""])
            missing += 1
            continue
        fields = _describe(policy, directory, name)
        output.result("key", **fields)
        here = "yes" if fields["private"] else "no"
        rows.append([name, fields["scheme"], fields["keyid"][:16], "demo" if fields["demo"] else "", here])
    text = table(["key", "scheme", "key id", "kind", "private half here"], rows, 5)
    output.result("summary", text, keys=len(rows), missing=missing)


@keys.command()
@click.argument("name")
@DIRECTORY
@click.option("--pem", "as_pem", is_flag=True, help="Print the public key as PEM, for other tools, and nothing else.")
@JSON
def show(*, name: str, directory: Path, as_pem: bool, as_json: bool) -> None:
    """Show one key: its id, its fingerprint to compare by voice, where its private half lies, which roles use it.

    The fingerprint is the SHA-256 of the key's DER form, as other tools compute it, too. --pem also shows keys that no role lists any more.
    """
    if as_pem:
        key = load_public(directory, name)
        Output(as_json).result("summary", pem(key).rstrip(), name=name, pem=pem(key))
        return
    policy = read_policy(directory / "policy.toml")
    if name not in key_names(policy):
        raise KeyMaterialError(f"key {name!r}: found no role that lists it, expected one", hint="packager keys list")
    fields = _describe(policy, directory, name)
    shown = {**fields, "roles": ", ".join(fields["roles"]), "demo": "yes" if fields["demo"] else "no"}
    shown["private"] = f"{fields['uri']} ({'here' if fields['private'] else 'not here'})"
    del shown["uri"]
    width = max(map(len, shown))
    Output(as_json).result(
        "summary", "\n".join(f"{label:<{width}}  {value}" for label, value in shown.items()), **fields
    )


def _describe(policy: KeyPolicy, directory: Path, name: str) -> Mapping[str, Any]:
    key = load_public(directory, name)
    return {
        "name": name,
        "scheme": scheme_of(key),
        "keyid": key.keyid,
        "fingerprint": fingerprint(key),
        "demo": is_demo(key),
        "uri": key_uri(directory, name),
        "private": is_here(directory, name),
        "roles": [role for role, of in policy.roles().items() if name in of.keys],
    }
