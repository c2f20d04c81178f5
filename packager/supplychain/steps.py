"""The steps of a release and how they hang together: what each uses and makes, under which names, by which rules.

Pure naming; the same on every machine. in-toto's patterns treat ``*`` as any text, slashes included.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from packager.model.errors import ConfigError, SupplyChainError
from packager.model.policy import KeyPolicy
from packager.vehicle.core.targets import FULL, image_path
from packager.vehicle.identity import Digest

COLLECT: Final = "collect"
DIFF: Final = "diff"
BUNDLE: Final = "bundle"
SELF_CHECK: Final = "self-check"
PUBLISH: Final = "publish"
STEPS: Final = (COLLECT, DIFF, BUNDLE, SELF_CHECK, PUBLISH)
"""The steps of a build, in the order in which they are performed. Steps of the company's own come before them: *front* steps."""

COMMAND: Final = ("packager", "build")
"""What performs every step. Options that don't change the result are left out, or the same release would have different links."""

DESCRIPTION: Final = "release.toml"
MAX_COMPONENT_CHARACTERS: Final = 128
_FRONT: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_COMPONENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_PREFIXES: Final = {"images": 4, "alignments": 4, "bundles": 4, "rebuilt": 5, "targets": 4}
"""Number of components of a name by its first one."""
INPUT: Final = "input"
"""What a front step takes from outside the chain: sources, deliveries."""
WORK: Final = "work"
"""What front steps make for one another."""
_MAX_COMPONENTS: Final = 32

Rules = tuple[tuple[str, ...], ...]
_NOTHING_ELSE: Final = ("DISALLOW", "*")
"""Must be last in every list: what no rule consumed is allowed otherwise."""


def image_artifact(hardware_id: str, version: str) -> str:
    """Name an image, old or new."""
    return f"images/{image_path(hardware_id, version)}"


def alignment_artifact(hardware_id: str, new_version: str, old: Digest) -> str:
    """Name the alignment of a new image to an old one."""
    return f"alignments/{hardware_id}/{new_version}/{old.hex}.segments"


def bundle_artifact(target_path: str) -> str:
    """Name a bundle before it is published under a target path."""
    return f"bundles/{target_path}"


def rebuilt_artifact(hardware_id: str, new_version: str, old: Digest | None) -> str:
    """Name what the vehicle's code rebuilt from a bundle; `old` is None for a full one."""
    return f"rebuilt/{old_name(old)}/{image_path(hardware_id, new_version)}"


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
        is_free = parts[0] in (INPUT, WORK) and 2 <= len(parts) <= _MAX_COMPONENTS
        if not all(len(part) <= MAX_COMPONENT_CHARACTERS and _COMPONENT.fullmatch(part) for part in parts) or not (
            name == DESCRIPTION or is_free or _PREFIXES.get(parts[0]) == len(parts)
        ):
            raise SupplyChainError(
                f"{what}: found artifact {name!r}, expected a relative name such as images/ZGW/1.0/image"
            )


def check_steps(policy: KeyPolicy) -> tuple[str, ...]:
    """Check that a policy names functionaries for all steps of a build.

    Returns:
        All steps in order: those of the company's own, then those of the build.

    Raises:
        ConfigError: It does not; or a step of the company's own has no plain name, or one of the build has a command.
    """
    front = tuple(name for name in policy.steps if name not in STEPS)
    problems = [f"steps.{name} is missing" for name in STEPS if name not in policy.steps]
    problems += [
        f"steps.{name}: expected a name of lower-case letters, digits and -" for name in front if not is_front(name)
    ]
    problems += [
        f"steps.{name}.command: found one, expected none: packager build performs this step"
        for name in policy.commands
        if name in STEPS
    ]
    problems += [
        f"steps.{name}.hardware: found some, expected none: this step is about all of a release"
        for name in policy.step_hardware
        if name in STEPS
    ]
    if problems:
        raise ConfigError("key policy: its steps are not those of a release", tuple(problems))
    return (*front, *STEPS)


def is_front(name: object) -> bool:
    """Tell whether `name` may be that of a step of the company's own."""
    return isinstance(name, str) and name not in STEPS and _FRONT.fullmatch(name) is not None


def last_makers(front: Mapping[str, Mapping[str, Digest]], names: Iterable[str]) -> dict[str, str]:
    """Return which front step made each artifact last: what an earlier one made of it does not count any more.

    Args:
        front: Products by front step, in order.
        names: Artifacts; those that no step made are left out.
    """
    wanted = set(names)
    return {name: step for step, products in front.items() for name in products if name in wanted}


def material_rules(step: str, front: Sequence[str] = ()) -> Rules:
    """Return what `step` may use: only what the steps before it made; front steps also what comes from outside.

    Args:
        step: Its name.
        front: The front steps before it, in order.
    """
    if step not in STEPS:
        made = (("MATCH", f"{p}/*", "WITH", "PRODUCTS", "FROM", s) for s in reversed(front) for p in (WORK, "images"))
        return (("ALLOW", f"{INPUT}/*"), *made, _NOTHING_ELSE)
    sources: dict[str, tuple[tuple[str, str], ...]] = {
        COLLECT: tuple(("images", source) for source in reversed(front)),
        DIFF: (("images", COLLECT),),
        BUNDLE: (("images", COLLECT), ("alignments", DIFF)),
        SELF_CHECK: (("bundles", BUNDLE), ("images", COLLECT)),
        PUBLISH: (("bundles", BUNDLE), ("rebuilt", SELF_CHECK)),
    }
    matches = (("MATCH", f"{prefix}/*", "WITH", "PRODUCTS", "FROM", source) for prefix, source in sources[step])
    return (*matches, _NOTHING_ELSE)


def image_patterns(hardware: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of the images of some hardware; of any if none is named."""
    return tuple(f"images/{hardware_id}/*" for hardware_id in hardware) or ("images/*",)


def product_rules(step: str, olds: Iterable[str], front: Sequence[str] = (), hardware: Sequence[str] = ()) -> Rules:
    """Return what `step` may make.

    Args:
        step: Its name.
        olds: What bundles start from (`old_name`): each gets a rule that what was rebuilt from it is the collected image.
        front: The front steps before it, in order; what they made is passed on by the first step of a build.
        hardware: Whose images a front step may make; none for any.
    """
    if step not in STEPS:
        return (("ALLOW", f"{WORK}/*"), *(("ALLOW", pattern) for pattern in image_patterns(hardware)), _NOTHING_ELSE)
    if step == SELF_CHECK:
        proof = ("WITH", "PRODUCTS", "IN", "images", "FROM", COLLECT)
        return (*(("MATCH", "*", "IN", f"rebuilt/{old}", *proof) for old in sorted(set(olds))), _NOTHING_ELSE)
    if step == PUBLISH:
        return (("MATCH", "*", "IN", "targets", "WITH", "PRODUCTS", "IN", "bundles", "FROM", BUNDLE), _NOTHING_ELSE)
    made = {COLLECT: (DESCRIPTION, "images/*"), DIFF: ("alignments/*",), BUNDLE: ("bundles/*",)}
    creates = tuple(("CREATE", pattern) for pattern in made[step])
    if step != COLLECT:
        return (*creates, _NOTHING_ELSE)
    passed_on = (("MATCH", "images/*", "WITH", "PRODUCTS", "FROM", source) for source in reversed(front))
    return (("REQUIRE", DESCRIPTION), *passed_on, *creates, _NOTHING_ELSE)
