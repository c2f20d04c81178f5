"""The steps of a release and how they hang together: what each uses and makes, under which names, by which rules.

Pure naming; the same on every machine. in-toto's patterns treat ``*`` as any text, slashes included.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from packager.model.errors import ConfigError, SupplyChainError
from packager.model.policy import KeyPolicy
from packager.vehicle.identity import Digest
from packager.vehicle.targets import BUNDLE_SUFFIX, FULL, IMAGE

COLLECT: Final = "collect"
DIFF: Final = "diff"
BUNDLE: Final = "bundle"
SELF_CHECK: Final = "self-check"
PUBLISH: Final = "publish"
STEPS: Final = (COLLECT, DIFF, BUNDLE, SELF_CHECK, PUBLISH)
"""In the order in which they are performed."""

COMMAND: Final = ("packager", "build")
"""What performs every step. Options that don't change the result are left out, or the same release would have different links."""

DESCRIPTION: Final = "release.toml"
MAX_COMPONENT_CHARACTERS: Final = 128
_COMPONENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_PREFIXES: Final = {"images": 4, "alignments": 4, "bundles": 4, "rebuilt": 5, "targets": 4}
"""Number of components of a name by its first one."""

Rules = tuple[tuple[str, ...], ...]
_NOTHING_ELSE: Final = ("DISALLOW", "*")
"""Must be last in every list: what no rule consumed is allowed otherwise."""


def image_artifact(hardware_id: str, version: str) -> str:
    """Name an image, old or new."""
    return f"images/{hardware_id}/{version}/{IMAGE}"


def alignment_artifact(hardware_id: str, new_version: str, old: Digest) -> str:
    """Name the alignment of a new image to an old one."""
    return f"alignments/{hardware_id}/{new_version}/{old.hex}.segments"


def bundle_artifact(hardware_id: str, new_version: str, old: Digest | None) -> str:
    """Name a bundle; `old` is None for a full one."""
    return f"bundles/{hardware_id}/{new_version}/{old_name(old)}{BUNDLE_SUFFIX}"


def rebuilt_artifact(hardware_id: str, new_version: str, old: Digest | None) -> str:
    """Name what the vehicle's code rebuilt from a bundle; `old` is None for a full one."""
    return f"rebuilt/{old_name(old)}/{hardware_id}/{new_version}/{IMAGE}"


def target_artifact(target_path: str) -> str:
    """Name what is published under a target path."""
    return f"targets/{target_path}"


def old_name(old: Digest | None) -> str:
    """Name what a bundle starts from."""
    return FULL if old is None else old.hex


def check_artifacts(what: str, artifacts: Mapping[str, Digest]) -> None:
    """Check that every name is one that this module gives: relative, normalised, free of wildcards.

    Args:
        what: Whose artifacts, for messages.
        artifacts: Digests by name.

    Raises:
        SupplyChainError: One is not.
    """
    for name in artifacts:
        parts = name.split("/")
        if not all(len(part) <= MAX_COMPONENT_CHARACTERS and _COMPONENT.fullmatch(part) for part in parts) or (
            name != DESCRIPTION and _PREFIXES.get(parts[0]) != len(parts)
        ):
            raise SupplyChainError(
                f"{what}: found artifact {name!r}, expected a relative name such as images/ZGW/1.0/image"
            )


def check_steps(policy: KeyPolicy) -> None:
    """Check that a policy names functionaries for exactly the steps that there are.

    Raises:
        ConfigError: It does not.
    """
    problems = [f"steps.{name} is missing" for name in STEPS if name not in policy.steps]
    problems += [
        f"steps.{name} is unknown; the steps are {', '.join(STEPS)}" for name in policy.steps if name not in STEPS
    ]
    if problems:
        raise ConfigError("key policy: its steps are not those of a release", tuple(problems))


def material_rules(step: str) -> Rules:
    """Return what `step` may use: only what the steps before it made."""
    sources: dict[str, tuple[tuple[str, str], ...]] = {
        COLLECT: (),
        DIFF: (("images", COLLECT),),
        BUNDLE: (("images", COLLECT), ("alignments", DIFF)),
        SELF_CHECK: (("bundles", BUNDLE), ("images", COLLECT)),
        PUBLISH: (("bundles", BUNDLE), ("rebuilt", SELF_CHECK)),
    }
    matches = (("MATCH", f"{prefix}/*", "WITH", "PRODUCTS", "FROM", source) for prefix, source in sources[step])
    return (*matches, _NOTHING_ELSE)


def product_rules(step: str, olds: Iterable[str]) -> Rules:
    """Return what `step` may make.

    Args:
        step: Its name.
        olds: What bundles start from (`old_name`): each gets a rule that what was rebuilt from it is the collected image.
    """
    if step == SELF_CHECK:
        proof = ("WITH", "PRODUCTS", "IN", "images", "FROM", COLLECT)
        return (*(("MATCH", "*", "IN", f"rebuilt/{old}", *proof) for old in sorted(set(olds))), _NOTHING_ELSE)
    if step == PUBLISH:
        return (("MATCH", "*", "IN", "targets", "WITH", "PRODUCTS", "IN", "bundles", "FROM", BUNDLE), _NOTHING_ELSE)
    made = {COLLECT: (DESCRIPTION, "images/*"), DIFF: ("alignments/*",), BUNDLE: ("bundles/*",)}
    creates = tuple(("CREATE", pattern) for pattern in made[step])
    required = (("REQUIRE", DESCRIPTION),) if step == COLLECT else ()
    return (*required, *creates, _NOTHING_ELSE)
