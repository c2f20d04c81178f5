"""`packager keys`: make the key pairs of a policy and the first root, and list them."""

from datetime import datetime
from pathlib import Path

import click

from packager.cli.files import JSON
from packager.cli.output import Output, table
from packager.cli.times import ISSUED_AT, issue_time
from packager.config.policy import read_policy
from packager.model.policy import key_names
from packager.repo.ceremony import create_root
from packager.repo.keys import create_keys, is_demo, load_public, private_path, root_path

DIRECTORY = click.option(
    "--keys",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("keys"),
    show_default=True,
    help="Directory with policy.toml, private/ and public/.",
)


@click.group()
def keys() -> None:
    """Create and list the keys of a policy."""


@keys.command()
@DIRECTORY
@ISSUED_AT
@JSON
def create(*, directory: Path, issued_at: datetime | None, as_json: bool) -> None:
    """Create the missing key pairs of the policy, and version 1 of the root. Nothing that exists is overwritten."""
    output = Output(as_json)
    policy = read_policy(directory / "policy.toml")
    made = create_keys(policy, directory)
    new_root = create_root(policy, directory, issue_time(issued_at))
    kind = "demo keys" if policy.demo else "keys"
    output.result(
        "summary",
        f"{directory}: {len(made.created)} {kind} created, {len(made.existing)} there already; "
        f"root {root_path(directory)} {'created' if new_root else 'there already'}",
        created=list(made.created),
        existing=list(made.existing),
        root=str(root_path(directory)),
        root_created=new_root,
        demo=policy.demo,
    )


@keys.command(name="list")
@DIRECTORY
@JSON
def list_keys(*, directory: Path, as_json: bool) -> None:
    """List the keys of the policy: who they are, and whether the private half is on this machine."""
    output = Output(as_json)
    rows = []
    for name in key_names(read_policy(directory / "policy.toml")):
        key = load_public(directory, name)
        here = private_path(directory, name).exists()
        output.result("key", name=name, keyid=key.keyid, scheme=key.scheme, demo=is_demo(key), private=here)
        rows.append([name, key.scheme, key.keyid[:16], "demo" if is_demo(key) else "", "yes" if here else "no"])
    text = table(["key", "scheme", "key id", "kind", "private half here"], rows, 5)
    output.result("summary", text, keys=len(rows))
