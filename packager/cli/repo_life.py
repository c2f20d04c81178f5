"""`packager repo init`, `propose`, `publish` and `refresh`: what changes a repository."""

from datetime import datetime
from pathlib import Path

import click

from packager.cli.keys import DIRECTORY
from packager.cli.options import JSON
from packager.cli.output import Output
from packager.cli.place import REPOSITORY, ROOT, WARN_DAYS, open_place
from packager.cli.secrets import ask_secret
from packager.cli.times import AS_OF, as_of
from packager.model.errors import RepositoryError
from packager.pipeline.repository import Place, propose_changes, publish_staged, refresh_online
from packager.repo.keys import load_signers
from packager.repo.online import Online
from packager.repo.staged import STAGED, demands, read_staged


@click.command()
@REPOSITORY
@DIRECTORY
@ROOT
@AS_OF
@JSON
def init(
    *, repository: Path, directory: Path, root_file: Path | None, issued_at: datetime | None, as_json: bool
) -> None:
    """Begin a repository: stage version 1 of the root, to be signed by its holders, or the root that is signed already."""
    output = Output(as_json)
    place = open_place(repository, directory, root_file, as_of(issued_at))
    if place.in_force().roots or read_staged(repository):
        raise RepositoryError(f"{repository}: has a root already, expected none", hint="packager repo status")
    _show_staged(output, repository, place)


@click.command()
@REPOSITORY
@click.argument("release", metavar="[RELEASE_DIR]", type=click.Path(path_type=Path, file_okay=False), required=False)
@DIRECTORY
@ROOT
@click.option("--renew", is_flag=True, help="Also give a new life time to what is due.")
@WARN_DAYS
@click.option(
    "--retire",
    "retired",
    multiple=True,
    metavar="RELEASE",
    help="Take a release that no car reads any more (id as in DIR/chain) out of what cars read; its evidence goes to DIR/retired.",
)
@click.option("--replace", is_flag=True, help="Give up proposals that have signatures.")
@AS_OF
@JSON
def propose(
    *,
    repository: Path,
    release: Path | None,
    directory: Path,
    root_file: Path | None,
    renew: bool,
    warn_days: int | None,
    retired: tuple[str, ...],
    replace: bool,
    issued_at: datetime | None,
    as_json: bool,
) -> None:
    """Stage what has to be signed: so that the repository follows policy.toml, and offers the release in RELEASE_DIR.

    Rotation, revocation and thresholds are changes of policy.toml; nothing is staged that need not change.
    """
    place = open_place(repository, directory, root_file, as_of(issued_at))
    _show_staged(
        Output(as_json),
        repository,
        place,
        release=release,
        renew=renew,
        warn_days=warn_days,
        replace=replace,
        retired=retired,
    )


@click.command()
@REPOSITORY
@DIRECTORY
@ROOT
@click.option("--allow-demo-keys", is_flag=True, help="Publish what demo keys have signed.")
@click.option("--dry-run", is_flag=True, help="Check everything; write nothing.")
@AS_OF
@JSON
def publish(
    *,
    repository: Path,
    directory: Path,
    root_file: Path | None,
    allow_demo_keys: bool,
    dry_run: bool,
    issued_at: datetime | None,
    as_json: bool,
) -> None:
    """Publish what is staged, once all signatures are there. Killed at any moment, it is finished by running it again."""
    output = Output(as_json)
    place = open_place(repository, directory, root_file, as_of(issued_at))
    done = publish_staged(place, _online(place, directory), allow_demo=allow_demo_keys, dry_run=dry_run)
    if not done.metadata and not dry_run:
        output.note("nothing was left to publish; what was staged last is in force (for more: packager repo propose)")
    text = "\n".join(
        [
            *(f"  {name}" for name in done.metadata),
            f"{repository}: {'would publish' if dry_run else 'published'} {len(done.metadata)} metadata files and "
            f"{done.bundles} targets" + "".join(f"; new release {release}" for release in done.releases),
        ]
    )
    output.result(
        "summary",
        text,
        metadata=list(done.metadata),
        targets=done.bundles,
        releases=list(done.releases),
        dry_run=dry_run,
    )


@click.command()
@REPOSITORY
@DIRECTORY
@ROOT
@WARN_DAYS
@AS_OF
@JSON
def refresh(
    *,
    repository: Path,
    directory: Path,
    root_file: Path | None,
    warn_days: int | None,
    issued_at: datetime | None,
    as_json: bool,
) -> None:
    """Sign a new timestamp, and a new snapshot if it is due: daily, by cron. Proposals are left alone."""
    place = open_place(repository, directory, root_file, as_of(issued_at))
    names = refresh_online(place, _online(place, directory), warn_days)
    Output(as_json).result("summary", f"{repository}: new {' and '.join(names)}", metadata=list(names))


def _online(place: Place, directory: Path) -> Online:
    roles = [place.policy.snapshot, place.policy.timestamp]
    return Online(place.policy, load_signers(directory, roles, ask_secret), place.now)


def _show_staged(
    output: Output,
    repository: Path,
    place: Place,
    *,
    release: Path | None = None,
    renew: bool = False,
    warn_days: int | None = None,
    replace: bool = False,
    retired: tuple[str, ...] = (),
) -> None:
    files = propose_changes(place, release, is_renewed=renew, warn_days=warn_days, is_replaced=replace, retired=retired)
    staged, in_force = {file.role: file for file in files}, place.in_force()
    to_sign = [file.name for file in files if any(demand.lacking for demand in demands(file, staged, in_force))]
    lines = [f"  {repository / STAGED / file.name}{'' if file.name in to_sign else ': is signed'}" for file in files]
    if to_sign:
        lines.append(
            f"{len(to_sign)} to sign; next: packager repo sign FILE --key NAME; packager repo status {repository}"
        )
    elif files:
        lines.append(f"nothing left to sign; next: packager repo publish {repository}")
    else:
        lines.append(f"{repository}: nothing to sign; it is as the policy wants it")
    output.result("summary", "\n".join(lines), staged=[file.name for file in files], to_sign=to_sign)
