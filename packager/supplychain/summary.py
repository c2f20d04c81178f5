"""What the release gate says of a supply chain that it verified: one SLSA verification summary per domain, which cars check.

`packager.vehicle.trust.summary` reads them and defines their form.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from securesystemslib.signer import Signer

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.model.policy import RolePolicy
from packager.supplychain.chain import LAYOUT_NAME, VerifiedChain
from packager.supplychain.intoto import TIME_FORMAT
from packager.supplychain.statement import resource, sign_statement, verify_statement
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.trust.summary import CHAIN_LEVEL, PASSED, PREDICATE_TYPE, RESOURCE_PREFIX, Gate, verify_summary

VERIFIER_ID = RESOURCE_PREFIX + "release-gate:v1"
LEVELS = ("SLSA_BUILD_LEVEL_UNEVALUATED", CHAIN_LEVEL)
"""How the images themselves were built is not looked at, so no SLSA level is claimed for them."""


def make_summary(
    path: str,
    images: Mapping[str, Digest],
    chain: VerifiedChain,
    chain_path: str,
    signers: Sequence[Signer],
    issued_at: datetime,
) -> bytes:
    """Vouch for the images of a domain, with the gate's keys.

    Args:
        path: Target path that the summary will have.
        images: Digests of the domain's new images, by target path.
        chain: The verified chain of their release; the caller can't have one without verifying it.
        chain_path: Where layout and links stand among the targets, for example ``chain/07-2020.45``.
        signers: The gate's.
        issued_at: UTC, whole seconds.

    Raises:
        SupplyChainError: The chain does not prove one of the images.
        KeyMaterialError: A signer can't sign.
    """
    proved = chain.new_images
    for name, digest in images.items():
        proven = proved.get(name)
        if proven != digest:
            raise SupplyChainError(
                f"{name}: found {digest}; the supply chain proves {proven or 'no bundle that rebuilds it'}",
                hint="the release gate vouches only for what the chain proves; build again",
            )
    predicate = {
        "verifier": {"id": VERIFIER_ID},
        "timeVerified": issued_at.strftime(TIME_FORMAT),
        "resourceUri": RESOURCE_PREFIX + path,
        **_judged(chain, chain_path),
        "verificationResult": PASSED,
        "verifiedLevels": list(LEVELS),
        "slsaVersion": "1.1",
    }
    return sign_statement(images, PREDICATE_TYPE, predicate, signers)


def choose_gate_signers(policy: RolePolicy, signers: Mapping[str, Signer]) -> list[Signer]:
    """Return the gate's keys that are at hand.

    Raises:
        KeyMaterialError: Fewer than its threshold are.
    """
    mine = [signers[name] for name in policy.keys if name in signers]
    if len(mine) < policy.threshold:
        raise KeyMaterialError(
            f"release gate: found {len(mine)} of its keys to sign with, expected {policy.threshold}",
            hint="packager keys create, or run this where the gate's keys are",
        )
    return mine


def check_summary(
    data: bytes, path: str, images: Mapping[str, Digest], chain: VerifiedChain, chain_path: str, gate: Gate
) -> None:
    """Verify a summary with the vehicle's own code, and that it is about exactly these images and this chain.

    Args:
        data: The file.
        path: Its target path.
        images: Digests of the images of the role that lists it, by target path.
        chain: The verified chain of their release.
        chain_path: As in `make_summary`.
        gate: Who may sign.

    Raises:
        SupplyChainError: It does not hold, or the layout had expired when the gate judged.
    """
    try:
        found = verify_summary(data, path, gate)
    except UntrustedError as error:
        raise SupplyChainError(str(error), hint="a car would refuse it; get the release again") from error
    said = verify_statement(data, path, PREDICATE_TYPE, gate.keys, gate.threshold).predicate
    for field, expected in _judged(chain, chain_path).items():
        if said.get(field) != expected:
            raise SupplyChainError(
                f"{path}: {field}: found {said.get(field)!r}, expected {expected!r}",
                hint="the release gate judged another chain; get the release again",
            )
    _check_time(said.get("timeVerified"), path, chain)
    for name in sorted(found.keys() | images.keys()):
        if found.get(name) != images.get(name):
            raise SupplyChainError(
                f"{path}: {name}: vouches for {found.get(name) or 'nothing'}, signed is {images.get(name) or 'nothing'}"
            )


def _check_time(said: object, path: str, chain: VerifiedChain) -> None:
    """Check that the gate judged before the layout expired: from then on, TUF's own expiry says whether the release is still offered."""
    try:
        verified_at = datetime.strptime(str(said), TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise SupplyChainError(f"{path}: timeVerified: found {said!r}, expected a time in UTC") from error
    if verified_at >= chain.expires:
        raise SupplyChainError(
            f"{path}: the release gate judged at {said}, expected before the layout expired, at {chain.expires:{TIME_FORMAT}}",
            hint="build again",
        )


def _judged(chain: VerifiedChain, chain_path: str) -> dict[str, Any]:
    """Return the fields that say what was judged, and by which layout."""
    links = sorted((name, digest) for name, digest in chain.files.items() if name != LAYOUT_NAME)
    return {
        "policy": resource(chain.files[LAYOUT_NAME], uri=f"{chain_path}/{LAYOUT_NAME}"),
        "inputAttestations": [resource(digest, uri=f"{chain_path}/{name}") for name, digest in links],
    }
