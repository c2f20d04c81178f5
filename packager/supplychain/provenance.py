"""Says of every bundle how it was made: SLSA provenance, version 1, one signed statement per bundle, beside the repository.

For people and tools that receive a bundle alone. It names what went in and with which parameters and tools, and no time and no
machine: the same inputs give the same provenance.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from securesystemslib.signer import Signer

from packager.model.errors import SupplyChainError
from packager.supplychain.chain import VerifiedChain
from packager.supplychain.statement import read_digest, resource, sign_statement, verify_statement
from packager.supplychain.steps import BUNDLE, DESCRIPTION, image_artifact
from packager.vehicle.identity import Digest

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:delta-packager:bundle:v1"
"""Described in ``docs/supply-chain.md``."""
BUILDER_ID: Final = "urn:delta-packager:builder:v1"
SUFFIX: Final = ".provenance.json"
_OUTSIDE_PYPI: Final = frozenset({"liblzma", "python"})


def make_provenance(
    path: str,
    bundle: Digest,
    parameters: Mapping[str, Any],
    sources: Mapping[str, Digest],
    tools: Mapping[str, str],
    signers: Sequence[Signer],
) -> bytes:
    """Make the provenance of one bundle.

    Args:
        path: Target path of the bundle.
        bundle: Its digest.
        parameters: What was asked for; plain JSON values.
        sources: Digests of what went in, by artifact name: release file and images.
        tools: Versions by name of package; ``python`` is the interpreter, ``liblzma`` the system's library.
        signers: Functionaries of step bundle.

    Raises:
        KeyMaterialError: A signer can't sign.
    """
    packages = [{"uri": _package_url(name, version)} for name, version in sorted(tools.items())]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": dict(parameters),
            "resolvedDependencies": [
                *(resource(digest, name=name) for name, digest in sorted(sources.items())),
                *packages,
            ],
        },
        "runDetails": {"builder": {"id": BUILDER_ID}},
    }
    return sign_statement({path: bundle}, PREDICATE_TYPE, predicate, signers)


def check_provenance(data: bytes, what: str, path: str, chain: VerifiedChain) -> None:
    """Verify the provenance of one bundle against the verified chain of its release.

    Args:
        data: The file.
        what: Names it in messages.
        path: Target path of the bundle.
        chain: Says who may sign, and what bundle and images are.

    Raises:
        SupplyChainError: It does not hold, or says something else than the chain.
    """
    who = chain.functionaries[BUNDLE]
    statement = verify_statement(data, what, PREDICATE_TYPE, who.keys, who.threshold)
    expected = {path: chain.targets[path]}
    if statement.subjects != expected:
        raise SupplyChainError(
            f"{what}: is about {_show(statement.subjects)}, the supply chain proves {_show(expected)}"
        )
    try:
        definition = statement.predicate["buildDefinition"]
        kind, builder = definition["buildType"], statement.predicate["runDetails"]["builder"]["id"]
        named = [item for item in definition["resolvedDependencies"] if "digest" in item]
        sources = {str(item["name"]): read_digest(item) for item in named}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(f"{what}: {error!r}; expected a build definition and a builder") from error
    if (kind, builder) != (BUILD_TYPE, BUILDER_ID):
        raise SupplyChainError(f"{what}: found {kind!r} by {builder!r}, expected {BUILD_TYPE!r} by {BUILDER_ID!r}")
    proven = {DESCRIPTION: chain.release.description, **chain.images}
    for name, digest in sources.items():
        if proven.get(name) != digest:
            raise SupplyChainError(
                f"{what}: {name}: found {digest}, the supply chain collected {proven.get(name) or 'nothing'}"
            )
    hardware_id, version, _ = path.split("/")
    missing = {DESCRIPTION, image_artifact(hardware_id, version)} - sources.keys()
    if missing:
        raise SupplyChainError(f"{what}: does not say that {min(missing)} went in")


def _package_url(name: str, version: str) -> str:
    return f"pkg:{'generic' if name in _OUTSIDE_PYPI else 'pypi'}/{name}@{version}"


def _show(subjects: Mapping[str, Digest]) -> str:
    return ", ".join(f"{name} {digest}" for name, digest in subjects.items()) or "nothing"
