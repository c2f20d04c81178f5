"""Two files alone: `packager diff` and `packager apply`."""

import tempfile
from pathlib import Path

import click

from packager.bundle.check import apply_to_file, rebuild
from packager.bundle.encoder import Label, encode
from packager.bundle.loose import ANY_PROFILE, LooseBundle, naming, self_signed
from packager.cli.options import JSON, PATH, read_image, read_root_file
from packager.cli.output import Output
from packager.cli.times import now
from packager.config.profile import read_profile_file
from packager.diff import matcher
from packager.diff.budget import effort_within, expected_s
from packager.diff.engine import DEFAULT_EFFORT, MAX_EFFORT, MIN_EFFORT, Engine, align, level_of
from packager.model.errors import ConfigError
from packager.vehicle.profile import DEFAULT_PROFILE, Coder
from packager.vehicle.storage import write_atomically

EFFORT = click.option(
    "--effort",
    type=click.IntRange(MIN_EFFORT, MAX_EFFORT),
    default=DEFAULT_EFFORT,
    show_default=True,
    help="1 is fast, 9 is small.",
)
TIME_BUDGET = click.option(
    "--time-budget",
    "budget_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Lower the effort for images that would take more processor time for one bundle. "
    "Their lengths decide, not a clock: the same inputs give the same bytes.",
)


@click.command()
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option("-o", "--output", "bundle", type=PATH, required=True, help="The bundle to write.")
@EFFORT
@TIME_BUDGET
@click.option(
    "--engine",
    type=click.Choice([engine.value for engine in Engine], case_sensitive=False),
    default=Engine.MATCH.value,
    show_default=True,
    help="What aligns the images: the packager's own, or bsdiff for comparison.",
)
@click.option(
    "--profile", "profile_file", type=PATH, help="TOML file with the [profile] of the ECU, as in a release file."
)
@JSON
def diff(
    *,
    old: Path,
    new: Path,
    bundle: Path,
    effort: int,
    budget_s: float | None,
    engine: str,
    profile_file: Path | None,
    as_json: bool,
) -> None:
    """Write the bundle that turns image OLD into image NEW.

    It is made for a gateway-class computer with zstd and a spare slot; --profile tells what another ECU can do.
    """
    output = Output(as_json)
    profile = DEFAULT_PROFILE if profile_file is None else read_profile_file(profile_file)
    old_data, new_data = read_image(old), read_image(new)
    if engine != Engine.BSDIFF:
        note_without_matcher(output)
    most, image_bytes = effort, max(len(old_data), len(new_data))
    effort = effort_within(most, budget_s, image_bytes, profile.coders)
    if effort < most and not as_json:
        seconds = expected_s(effort, image_bytes, profile.coders)
        output.note(
            f"{bundle}: effort {effort} instead of {most}, expected to take {seconds:.1f} s; the budget is {budget_s:g} s"
        )
    predicts = profile.predictors and profile.spare_slot
    alignment = align(
        old_data, new_data, Engine(engine), effort, predicts=predicts, adaptive=Coder.ADAPTIVE in profile.coders
    )
    encoded = encode(old_data, new_data, alignment, profile, Label(), level_of(effort))
    with tempfile.TemporaryDirectory(prefix="packager-") as scratch:
        candidate = Path(scratch) / "bundle"
        candidate.write_bytes(encoded.written.data)
        rebuild(candidate, self_signed(candidate), profile, old, Path(scratch))
    write_atomically(bundle, encoded.written.data)
    bundle_bytes = len(encoded.written.data)
    percent = 100 * bundle_bytes / len(new_data)
    forms = ", ".join(f"{count} {form}" for form, count in encoded.blocks_by_form.items())
    output.result(
        "summary",
        f"{bundle}: {bundle_bytes} bytes, {percent:.2f} % of the new image ({forms}); checked by applying it",
        bundle=str(bundle),
        bundle_bytes=bundle_bytes,
        image_bytes=len(new_data),
        percent=round(percent, 3),
        effort=effort,
        blocks_by_form=dict(encoded.blocks_by_form),
    )


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--old", type=PATH, help="The old image; leave out for a full bundle.")
@click.option("-o", "--output", "new", type=PATH, required=True, help="The new image to write.")
@click.option(
    "--repo",
    type=click.Path(path_type=Path, file_okay=False),
    help="What vouches for the bundle: a served repository, with metadata/, such as release/repo.",
)
@click.option("--root", type=PATH, help="The trusted root metadata, with --repo.")
@JSON
def apply(*, bundle: Path, old: Path | None, new: Path, repo: Path | None, root: Path | None, as_json: bool) -> None:
    """Turn image OLD into the new image with BUNDLE. It appears only when it is complete and verified.

    A loose bundle vouches only for itself. With --repo and --root its head must be one that the repository signed.
    """
    output = Output(as_json)
    if (repo is None) != (root is None):
        raise ConfigError("--repo and --root: found one of them, expected both or neither")
    loose = LooseBundle.open(bundle, ANY_PROFILE)
    authenticated = repo is not None and root is not None
    if repo is not None and root is not None:
        # Imported here: what reads metadata and keys takes longer to import than a small bundle to make.
        from packager.pipeline.verify import find_signed_head

        find_signed_head(repo, read_root_file(root), loose.head, now())
    elif not as_json:
        output.note(f"{bundle}: not authenticated; give --repo and --root to check who made it")
    if loose.head.manifest.old is not None and old is None:
        raise ConfigError(f"{bundle}: starts from the old image {loose.head.manifest.old}", hint="give it with --old")
    with naming(bundle):
        verified = apply_to_file(bundle, loose.head, old if loose.head.manifest.old is not None else None, new)
    output.result(
        "summary",
        f"{new}: {verified.image}",
        new=str(new),
        length_bytes=verified.image.length_bytes,
        sha256=verified.image.digest.hex,
        authenticated=authenticated,
    )


def note_without_matcher(output: Output) -> None:
    """Say what it means where no compiler was at installation; `packager` itself says why a compiled matcher is not in use."""
    if not matcher.is_compiled() and not matcher.PROBLEM:
        output.note(
            "no compiled matcher: bsdiff aligns and nothing is predicted, so bundles are larger; "
            "install a C compiler and Python's headers, then this program again"
        )
