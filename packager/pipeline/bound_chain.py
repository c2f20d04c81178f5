"""Holds the supply chain of every release that is in effect against what is signed: files, layout keys, and what they prove.

The roles of a release name its complete chain by digest (ITE-2), so that a chain can't be exchanged by those who sign the role above.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.exceptions import Error as SignerError
from tuf.api.metadata import Key, TargetFile, Targets

from packager.model.errors import SupplyChainError
from packager.repo.admission import chain_path, split_role_name
from packager.repo.contents import read_key
from packager.repo.staged import STAGED
from packager.repo.targets_set import BINDING
from packager.supplychain.chain import LAYOUT_NAME, VerifiedChain, read_chain, verify_chain
from packager.supplychain.sbom import without_sbom
from packager.vehicle.core.targets import CHAIN, BundleTarget, ImageTarget
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.trust.metadata_store import TrustedMetadata

_HINT: Final = "the file is not the one that was signed; get the release again"


def verify_chains(
    directory: Path,
    trusted: TrustedMetadata,
    targets: Iterable[ImageTarget | BundleTarget],
    now: datetime | None,
    only: str | None = None,
) -> dict[str, VerifiedChain]:
    """Verify the supply chain of every release that some car reads.

    Args:
        directory: ``DIR/chain``.
        trusted: The repository's metadata.
        targets: All of it that some car reads.
        now: Time to judge the expiry of layouts by; None if the summaries of the release gate say when they were judged.
        only: The one release to verify; None for all.

    Returns:
        What the chains prove, by release id and newest first.

    Raises:
        UntrustedError: A role does not hold.
        SupplyChainError: A chain does not hold, is not the one that is bound, or is about something else than what is signed.
    """
    roles = trusted.delegations.roles(superseded=False)
    by_release: dict[str, dict[str, Targets]] = {}
    for name, role in roles.items():
        by_release.setdefault(split_role_name(name)[1], {})[name] = role
    signed = _signed_files(trusted.targets)
    _check_directory(directory, signed)
    chains = {}
    for release, group in by_release.items():
        if only not in (None, release):
            continue
        files = signed.get(release, {})
        for name, role in group.items():
            _check_binding(name, role, release, {file: entry.hashes.get(SHA256, "") for file, entry in files.items()})
        found = read_chain(directory / release)
        _check_files(directory / release, found, files)
        keys = _layout_keys(release, files[LAYOUT_NAME].custom if LAYOUT_NAME in files else None)
        chains[release] = verify_chain(without_sbom(found), keys, now)
    for release, chain in chains.items():
        _compare(release, chain, trusted, by_release[release], targets)
    return chains


def _signed_files(top: Targets) -> dict[str, dict[str, TargetFile]]:
    """Return the signed files of every release's chain, by release and name."""
    found: dict[str, dict[str, TargetFile]] = {}
    for path, entry in top.targets.items():
        first, *rest = path.split("/")
        if first == CHAIN:
            if len(rest) != 2:
                raise SupplyChainError(f"target {path!r}: expected {CHAIN}/<release>/<file>")
            found.setdefault(rest[0], {})[rest[1]] = entry
    return found


def _check_directory(directory: Path, signed: Mapping[str, object]) -> None:
    try:
        unknown = sorted(path.name for path in directory.iterdir() if path.name not in signed)
        is_publishing = any((directory.parent / STAGED).glob("*.json"))  # the next release comes before what signs it
    except OSError as error:
        raise SupplyChainError(f"{directory}: {error}; expected one directory per release") from error
    if unknown and not is_publishing:
        raise SupplyChainError(
            f"{directory / unknown[0]}: is of no release that was signed, expected {', '.join(sorted(signed)) or 'none'}",
            hint="remove it, or get the repository again",
        )


def _check_binding(name: str, role: Targets, release: str, signed: Mapping[str, str]) -> None:
    bound = role.unrecognized_fields.get(BINDING)
    expected = {"release": release, "layout": LAYOUT_NAME, "files": signed}
    if bound != expected:
        raise SupplyChainError(
            f"{name}.json: is bound to the supply chain {bound!r}, signed above it is {expected!r}",
            hint="the role was signed for another chain; build and sign the release again",
        )


def _check_files(directory: Path, files: Mapping[str, bytes], signed: Mapping[str, TargetFile]) -> None:
    for name in sorted(files.keys() | signed.keys()):
        expected = signed[name].hashes.get(SHA256) if name in signed else "nothing: no such target"
        found = Digest.of(files[name]).hex if name in files else "nothing: the file is missing"
        if found != expected:
            raise SupplyChainError(f"{directory / name}: found {found}, expected {expected}", hint=_HINT)


def _layout_keys(release: str, custom: object) -> list[Key]:
    try:
        return [read_key(entry) for entry in custom["in-toto"]["keys"]]  # type: ignore[index]
    except (SignerError, KeyError, TypeError, ValueError, AttributeError) as error:
        path = chain_path(release, LAYOUT_NAME)
        raise SupplyChainError(f"target {path}: {error!r}; expected the layout's keys in its custom fields") from error


def _compare(
    release: str,
    chain: VerifiedChain,
    trusted: TrustedMetadata,
    roles: Mapping[str, Targets],
    targets: Iterable[ImageTarget | BundleTarget],
) -> None:
    """Check that what is signed is what the chain proves, all of it and nothing else, but for what newer releases took over."""
    mine = [target for target in targets if trusted.delegations.responsible(target.path) in roles]
    signed = {target.path: target.digest for target in mine if isinstance(target, BundleTarget)}
    owners = {path: trusted.delegations.responsible(path) for path in chain.targets}
    proven = {path: digest for path, digest in chain.targets.items() if owners[path] is None or owners[path] in roles}
    for path in sorted(signed.keys() | proven.keys()):
        if signed.get(path) != proven.get(path):
            raise SupplyChainError(
                f"target {path}: signed is {signed.get(path) or 'nothing'}, "
                f"the supply chain of {release} proves {proven.get(path) or 'nothing'}"
            )
    for image in (target for target in mine if isinstance(target, ImageTarget)):
        collected = chain.images.get(f"images/{image.path}")
        if collected != image.image.digest:
            raise SupplyChainError(
                f"target {image.path}: signed is {image.image.digest}, the supply chain of {release} "
                f"collected {collected or 'nothing'}"
            )
