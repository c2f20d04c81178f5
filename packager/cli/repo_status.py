"""`packager repo status`: who signed and who is missing, what expires when; fails before anything does."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

from packager.cli.keys import DIRECTORY
from packager.cli.options import JSON
from packager.cli.output import Output, table
from packager.cli.place import REPOSITORY, ROOT, WARN_DAYS, open_place
from packager.cli.repo_names import key_labels
from packager.cli.times import AS_OF, as_of
from packager.model.errors import RepositoryError
from packager.repo.in_force import InForce
from packager.repo.lifetimes import Life, lifetimes
from packager.repo.staged import StagedFile, demands, label, read_staged

_ONLINE = ("snapshot", "timestamp")


@click.command()
@REPOSITORY
@DIRECTORY
@ROOT
@WARN_DAYS
@AS_OF
@JSON
def status(
    *,
    repository: Path,
    directory: Path,
    root_file: Path | None,
    warn_days: int | None,
    issued_at: datetime | None,
    as_json: bool,
) -> None:
    """Show proposals with who signed and who is missing, and what is in force with its expiry.

    Exits with 40 if something in force has to be renewed, which is well before it expires.
    """
    output, now = Output(as_json), as_of(issued_at)
    place = open_place(repository, directory, root_file, now)
    in_force = place.in_force()
    staged = read_staged(repository)
    rows = _show_staged(output, staged, in_force, key_labels(directory))
    lives = lifetimes(in_force, place.policy, now, warn_days)
    if not lives and not staged:
        raise RepositoryError(
            f"{repository}: found nothing in force and nothing to sign, expected a repository",
            hint="packager repo init begins one; is this the right directory, and is its disk mounted?",
        )
    for life in lives:
        output.result(
            "in_force",
            role=life.role,
            version=life.version,
            expires=f"{life.expires:%Y-%m-%dT%H:%M:%SZ}",
            days_left=_days(life),
            is_due=life.is_due,
        )
    due = [life for life in lives if life.is_due]
    parts = []
    if rows:
        parts.append(table(["to sign", "asked by", "has", "signed by", "state"], rows, 5))
    parts.append(_show_lives(lives) if lives else f"{repository}: nothing is published yet")
    if in_force.is_interrupted:
        parts.append("a publication was interrupted; finish it: packager repo publish")
    output.result(
        "summary",
        "\n\n".join(parts),
        staged=len(staged),
        due=[life.role for life in due],
        interrupted=in_force.is_interrupted,
    )
    if due:
        raise RepositoryError(
            f"{repository}: {len(due)} roles have to be renewed: "
            + ", ".join(f"{life.role} ({_when(life)})" for life in due),
            hint=_advise(due),
        )


def _show_staged(
    output: Output, staged: Mapping[str, StagedFile], in_force: InForce, names: Mapping[str, str]
) -> list[list[str]]:
    """Show to programs who signed what and who is missing; return the same as rows for people."""
    rows = []
    for file in staged.values():
        for demand in demands(file, staged, in_force):
            signed = [label(key_id, names) for key_id in demand.signed]
            missing = [label(key_id, names) for key_id in demand.missing]
            output.result(
                "staged",
                file=file.name,
                by=demand.by,
                threshold=demand.role.threshold,
                signed=signed,
                missing=missing,
                lacking=demand.lacking,
                sha256=file.digest.hex,
            )
            state = "ready" if not demand.lacking else f"{demand.lacking} more of {', '.join(missing)}"
            of = f"{len(signed)} of {demand.role.threshold}"
            rows.append([file.name, demand.by, of, ", ".join(signed) or "nobody", state])
    return rows


def _show_lives(lives: list[Life]) -> str:
    rows = [
        [
            life.role,
            f"{life.expires:%Y-%m-%d %H:%M}",
            "EXPIRED" if life.left.total_seconds() <= 0 else "due" if life.is_due else "",
            str(life.version),
            f"{_days(life):.1f}",
        ]
        for life in lives
    ]
    return table(["in force", "expires (UTC)", "", "version", "days left"], rows, 3)


def _days(life: Life) -> float:
    return round(life.left.total_seconds() / 86_400, 1)


def _when(life: Life) -> str:
    days = _days(life)
    return f"{days} days left" if days > 0 else "expired"


def _advise(due: list[Life]) -> str:
    by_hand = [life.role for life in due if life.role not in _ONLINE]
    if by_hand:
        return "packager repo propose --renew, then sign and publish; docs/ceremony.md"
    return "packager repo refresh"
