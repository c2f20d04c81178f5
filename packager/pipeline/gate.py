"""The release gate: nothing is signed as a target before the chain of its release holds, and cars are told that it does.

The gate may run on a machine of its own: it needs its own key, the public keys of the policy, and what the build left.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key

from packager.model.errors import SpaceError, SupplyChainError
from packager.model.policy import KeyPolicy
from packager.repo.admission import chain_path, role_name
from packager.repo.authority import Authority
from packager.repo.contents import TARGETS, Contents, read_contents
from packager.repo.files import write_once
from packager.supplychain.chain import VerifiedChain, verify_chain
from packager.supplychain.sbom import SBOM_NAME, check_sbom, without_sbom
from packager.supplychain.summary import check_summary, choose_gate_signers, make_summary
from packager.vehicle.core.targets import BundleTarget, ImageTarget, summary_path
from packager.vehicle.identity import Digest
from packager.vehicle.trust.summary import Gate

_FILE_MODE: Final = 0o644


def verify_contents(contents: Contents, policy: KeyPolicy, keys: Mapping[str, Key], now: datetime) -> VerifiedChain:
    """Verify the supply chain of a release that is to be signed, and that it proves all that would be signed.

    Args:
        contents: What a build left (`packager.repo.contents.read_contents`).
        policy: Says who owns the layout. What the contents say of that is not trusted.
        keys: Public keys of the policy by name.
        now: Time to judge expiry by; aware.

    Raises:
        SupplyChainError: The chain does not hold, is of other owners, or is about something else.
    """
    owners = {keys[name].keyid: keys[name] for name in policy.layout.keys}
    signed_by = [owners[key.keyid] for key in contents.chain.layout_keys if owners.get(key.keyid) == key]
    if len(signed_by) != len(contents.chain.layout_keys) or len(set(signed_by)) < policy.layout.threshold:
        raise SupplyChainError(
            f"layout: found owners {', '.join(key.keyid for key in contents.chain.layout_keys) or 'none'}, "
            f"expected {policy.layout.threshold} of {', '.join(owners)}",
            hint="the policy of the machine that built the release differs from the one here",
        )
    chain = verify_chain(without_sbom(contents.chain.files), signed_by, now)
    targets = [target for group in contents.targets.values() for target in group]
    signed = {target.path: target.digest for target in targets if isinstance(target, BundleTarget)}
    if signed != chain.targets:
        path = min(path for path in signed.keys() | chain.targets.keys() if signed.get(path) != chain.targets.get(path))
        raise SupplyChainError(
            f"target {path}: to be signed is {signed.get(path) or 'nothing'}, the supply chain proves "
            f"{chain.targets.get(path) or 'nothing'}",
            hint="build again",
        )
    images = {target.path: target.image.digest for target in targets if isinstance(target, ImageTarget)}
    name = chain_path(contents.release, SBOM_NAME)
    if SBOM_NAME not in contents.chain.files:
        raise SupplyChainError(f"{name}: is missing, expected the bill of materials", hint="build again")
    check_sbom(contents.chain.files[SBOM_NAME], name, images)
    return chain


def approve_release(release_dir: Path, authority: Authority, now: datetime) -> tuple[str, ...]:
    """Verify the supply chain of a release that was built, and leave a summary for the cars among its targets, one per domain.

    A summary of the same that is there already stays, so that an approval that was cut short is finished by running it again.

    Args:
        release_dir: What a build left.
        authority: Policy and public keys; the gate's private keys are among its signers.
        now: Time to judge expiry by, UTC, whole seconds.

    Returns:
        Target paths of the summaries; none if the policy has no gate.

    Raises:
        RepositoryError: What the build left does not agree with itself.
        SupplyChainError: The chain does not hold, or a summary is there that says something else. Nothing was written.
        KeyMaterialError: Too few of the gate's keys are at hand. Nothing was written.
        SpaceError: A summary can't be written.
    """
    contents = read_contents(release_dir)
    chain = verify_contents(contents, authority.policy, authority.keys, now)
    if authority.policy.gate is None:
        return ()
    signers = choose_gate_signers(authority.policy.gate, authority.signers)
    place = chain_path(contents.release, "").rstrip("/")
    gate = Gate(tuple(authority.keys[name] for name in authority.policy.gate.keys), authority.policy.gate.threshold)
    summaries: dict[str, bytes] = {}
    for domain in sorted(contents.targets):
        path = summary_path(role_name(domain, contents.release))
        images = _images(contents, domain, path)
        summaries[path] = contents.summaries.get(domain, b"")
        if summaries[path]:
            check_summary(summaries[path], path, images, chain, place, gate)
        else:
            summaries[path] = make_summary(path, images, chain, place, signers, now)
    try:
        for path, data in summaries.items():
            file = release_dir / TARGETS / path
            file.parent.mkdir(parents=True, exist_ok=True)
            for left in file.parent.glob(f".{file.name}.*"):  # of a process that was killed
                left.unlink()
            if not file.exists():
                write_once(file, data, _FILE_MODE)
    except OSError as error:
        raise SpaceError(f"{release_dir / TARGETS}: a summary can't be written: {error}") from error
    return tuple(summaries)


def _images(contents: Contents, domain: str, path: str) -> dict[str, Digest]:
    images = {}
    for target in contents.targets[domain]:
        if isinstance(target, ImageTarget):
            if target.summary != path:
                raise SupplyChainError(
                    f"target {target.path}: names the summary {target.summary!r}, expected {path!r}",
                    hint="build the release with a policy that has a release gate",
                )
            images[target.path] = target.image.digest
    return images
