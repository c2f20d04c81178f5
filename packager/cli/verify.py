"""`packager verify`: a finished release, checked from a trusted root alone."""

from pathlib import Path

import click

from packager.cli.options import JSON, PATH, read_root_file
from packager.cli.output import Output
from packager.cli.times import now
from packager.pipeline.verify import verify_release
from packager.vehicle.core.targets import BundleTarget

DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("--root", type=PATH, required=True, help="The root metadata that you trust.")
@click.option("--images", type=DIRECTORY, help="Directory with the old images, under any names.")
@JSON
def verify(*, directory: Path, root: Path, images: Path | None, as_json: bool) -> None:
    """Check the release in DIR: signatures, supply chain, and every bundle applied to its old image."""
    output = Output(as_json)
    root_data = read_root_file(root)

    def show(target: BundleTarget) -> None:
        output.result("bundle", f"ok  {target.path}", path=target.path, length_bytes=target.length_bytes)

    verified = verify_release(directory, root_data, images, now(), show)
    chains = list(verified.chains.values())
    release = chains[0].release
    steps = sum(len(chain.links) for chain in chains)
    more = f" (and {len(chains) - 1} before it)" if chains[1:] else ""
    output.result(
        "summary",
        f"{directory}: {release.name} {release.version}{more} is verified: {len(verified.images)} images, "
        f"{len(verified.bundles)} bundles applied, {steps} steps of the supply chain",
        release=release.name,
        version=release.version,
        images=len(verified.images),
        bundles=len(verified.bundles),
        steps=steps,
        releases=[chain.release.version for chain in chains],
        verified=True,
    )
