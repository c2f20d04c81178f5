"""What a release says of itself to others: provenance per bundle, summaries of the release gate, bill of materials.

Provenance lies in ``DIR/evidence/<release>/<target path>.provenance.json``; the others are targets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from packager.model.errors import SupplyChainError
from packager.model.jobs import BuiltBundle
from packager.repo.admission import chain_path, split_role_name
from packager.supplychain.chain import VerifiedChain
from packager.supplychain.envelope import MAX_ENVELOPE_BYTES
from packager.supplychain.provenance import SUFFIX, check_provenance, make_provenance
from packager.supplychain.sbom import SBOM_NAME, check_sbom
from packager.supplychain.steps import DESCRIPTION, image_artifact
from packager.supplychain.summary import check_summary
from packager.vehicle.core.targets import CHAIN, IMAGE, summary_path
from packager.vehicle.identity import SHA256, Digest
from packager.vehicle.profile import UpdateProfile
from packager.vehicle.trust.metadata_json import digest_of
from packager.vehicle.trust.metadata_store import TrustedMetadata
from packager.vehicle.trust.summary import Gate, read_gate

EVIDENCE: Final = "evidence"
_TARGETS: Final = Path("repo/targets")
_HINT: Final = "get the release again"


def write_provenance(
    directory: Path,
    bundles: Sequence[BuiltBundle],
    description: Digest,
    efforts: Mapping[str, int],
    tools: Mapping[str, str],
    signers: Sequence[Signer],
) -> None:
    """Write the provenance of every bundle.

    Args:
        directory: ``DIR/evidence/<release>``.
        bundles: What was made.
        description: Digest of the release file.
        efforts: With which they were made, by path.
        tools: Versions by name.
        signers: Functionaries of step bundle.

    Raises:
        KeyMaterialError: A signer can't sign.
        OSError: A file can't be written.
    """
    for built in bundles:
        ecu, new, old = built.job.ecu, built.job.new, built.job.old
        parameters = {
            "hardware_id": ecu.hardware_id,
            "from": None if old is None else old.source.version,
            "to": new.source.version,
            "effort": efforts[built.job.path],
            "profile": _profile(ecu.profile),
        }
        images = [new] if old is None else [new, old]
        sources = {image_artifact(i.hardware_id, i.source.version): i.image.digest for i in images}
        data = make_provenance(
            built.job.path,
            built.bundle.digest,
            parameters,
            {DESCRIPTION: description, **sources},
            tools,
            signers,
        )
        path = directory / f"{built.job.path}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def verify_exported(directory: Path, trusted: TrustedMetadata, chains: Mapping[str, VerifiedChain]) -> None:
    """Verify all that the releases of a repository say of themselves, against their verified chains.

    Args:
        directory: With ``repo``, ``chain`` and ``evidence``.
        trusted: The repository's metadata.
        chains: Of every release that some car reads (`bound_chain.verify_chains`).

    Raises:
        UntrustedError: A role does not hold, or names a malformed gate.
        SupplyChainError: A file is missing, left over, damaged, or says something else; the message names it.
    """
    gate = read_gate(trusted.targets)
    for name, role in trusted.delegations.roles(superseded=False).items():
        _, release = split_role_name(name)
        images = {path: digest_of(entry.hashes, f"target {path!r}") for path, entry in _images(role).items()}
        if gate is not None:
            _verify_summary(directory / _TARGETS, name, role, images, chains[release], gate)
    for release, chain in chains.items():
        path = directory / CHAIN / release / SBOM_NAME
        check_sbom(_read(path), str(path), chain.new_images)
        _verify_provenance(directory / EVIDENCE / release, chain)


def _images(role: Targets) -> dict[str, Any]:
    return {path: entry for path, entry in role.targets.items() if path.count("/") == 2 and path.endswith(f"/{IMAGE}")}


def _verify_summary(
    targets: Path, name: str, role: Targets, images: Mapping[str, Digest], chain: VerifiedChain, gate: Gate
) -> None:
    path = summary_path(name)
    for image, entry in _images(role).items():
        named = (entry.custom or {}).get("summary")
        if named != path:
            raise SupplyChainError(
                f"target {image}: names the summary {named!r}, expected {path!r}", hint="cars would refuse it"
            )
    if path not in role.targets:
        raise SupplyChainError(f"{name}.json: lists no {path}, expected the summary of the release gate")
    data = _read(targets / path)
    expected = role.targets[path].hashes.get(SHA256)
    if Digest.of(data).hex != expected:
        raise SupplyChainError(f"{targets / path}: found {Digest.of(data).hex}, expected {expected}", hint=_HINT)
    _, release = split_role_name(name)
    check_summary(data, path, images, chain, chain_path(release, "").rstrip("/"), gate)


def _verify_provenance(directory: Path, chain: VerifiedChain) -> None:
    expected = {f"{path}{SUFFIX}": path for path in chain.targets}
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
    for name in sorted(found ^ expected.keys()):
        problem = "is missing" if name in expected else "belongs to no bundle of the release"
        raise SupplyChainError(f"{directory / name}: {problem}, expected one provenance per bundle", hint=_HINT)
    for name, path in sorted(expected.items()):
        check_provenance(_read(directory / name), str(directory / name), path, chain)


def _profile(profile: UpdateProfile) -> dict[str, Any]:
    return {
        "ram_bytes": profile.ram_bytes,
        "flash_bytes": profile.flash_bytes,
        "spare_slot": profile.spare_slot,
        "coders": sorted(coder.name.lower() for coder in profile.coders),
        "block_bytes": profile.block_bytes,
        "scratch_bytes": profile.scratch_bytes,
        "predictors": profile.predictors,
    }


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise SupplyChainError(f"{path}: can't be read: {error.strerror}", hint=_HINT) from error
