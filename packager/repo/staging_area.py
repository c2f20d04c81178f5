"""Fills ``DIR/staged``: proposed metadata, and the files of a new release, none of which is served before it is published.

A proposal that people have signed is not thrown away by proposing again: what is the same but for its life time stays as it is.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from packager.model.errors import RepositoryError, SpaceError
from packager.repo.contents import TARGETS, Contents
from packager.repo.files import locked
from packager.repo.staged import STAGED, StagedFile, read_staged
from packager.repo.writes import Writes, identify
from packager.vehicle.core.targets import CHAIN, ImageTarget

_TREES = (CHAIN, "evidence")


def stage(
    directory: Path,
    files: Mapping[str, StagedFile],
    release_dir: Path | None = None,
    contents: Contents | None = None,
    *,
    is_replaced: bool = False,
) -> list[StagedFile]:
    """Put proposals into ``DIR/staged`` in place of those before.

    Args:
        directory: ``DIR``; made if missing.
        files: What has to be signed, or is signed already, by role.
        release_dir: The new release; None for none.
        contents: What it says.
        is_replaced: Whether proposals that have signatures may go.

    Returns:
        What lies there now.

    Raises:
        RepositoryError: A proposal with signatures would be lost.
        SpaceError: A file can't be written.
    """
    writes = Writes()
    try:
        (directory / STAGED).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpaceError(f"{directory / STAGED}: can't be made: {error.strerror}") from error
    with locked(directory):
        writes.sweep(directory / STAGED)
        before = read_staged(directory)
        kept = {role: before[role] for role, file in files.items() if role in before and _is_same(before[role], file)}
        lost = [file.name for role, file in before.items() if role not in kept and file.metadata.signatures]
        if lost and not is_replaced:
            raise RepositoryError(
                f"{directory / STAGED / lost[0]}: has signatures that would be lost",
                hint="publish it first, or give it up with --replace",
            )
        for role, file in before.items():
            if role not in kept:
                writes.remove(directory / STAGED / file.name)
        for name in ("targets", *_TREES):
            writes.remove(directory / STAGED / name)
        if release_dir is not None and contents is not None:
            _copy_release(directory, release_dir, contents)
        for role, file in files.items():
            if role not in kept:
                writes.replace(directory / STAGED / file.name, file.data)
    return [kept.get(role, file) for role, file in files.items()]


def _is_same(before: StagedFile, after: StagedFile) -> bool:
    """Tell whether two proposals say the same, whenever they expire; of a signed one every byte counts."""
    if after.metadata.signatures:
        return before.data == after.data
    first, second = before.metadata.claimed.to_dict(), after.metadata.claimed.to_dict()
    return {**first, "expires": None} == {**second, "expires": None}


def _copy_release(directory: Path, release_dir: Path, contents: Contents) -> None:
    """Copy bundles, summaries, chain and provenance, but for what stands in its place already."""
    targets = [target for group in contents.targets.values() for target in group]
    paths = {target.summary or "" if isinstance(target, ImageTarget) else target.path for target in targets} - {""}
    copies = [(release_dir / TARGETS / path, Path("targets") / path, TARGETS / path) for path in sorted(paths)]
    for tree in _TREES:
        if (release_dir / tree / contents.release).is_dir():
            name = Path(tree) / contents.release
            copies.append((release_dir / name, name, name))
    try:
        for source, staged, place in copies:
            served = directory / place
            if served.exists() and (
                source.samefile(served) or (source.is_file() and identify(source) == identify(served))
            ):
                continue
            copy = directory / STAGED / staged
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            else:
                shutil.copyfile(source, copy)
    except OSError as error:
        raise SpaceError(f"{error.filename}: can't be copied: {error.strerror}") from error
