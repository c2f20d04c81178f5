"""First step: reads every image once, checks it against its ECU, and plans one job per bundle."""

from collections.abc import Callable

from packager.model.errors import ImageError
from packager.model.jobs import CollectedImage, Job, Plan
from packager.model.release import EcuRelease, ImageSource, Release
from packager.vehicle.identity import ImageId


def collect(release: Release, on_bytes: Callable[[int], None] | None = None) -> Plan:
    """Identify all images of a release and plan its bundles.

    Args:
        release: What to build.
        on_bytes: Told the number of bytes after each read.

    Raises:
        ImageError: Images are missing, unreadable, empty or larger than the flash; the message lists all of them.
    """
    problems: list[str] = []
    images: list[CollectedImage] = []
    jobs: list[Job] = []
    notes: list[str] = []
    for ecu in release.ecus:
        found = {source.version: _identify(ecu, source, problems, on_bytes) for source in (ecu.new, *ecu.old)}
        images += [image for image in found.values() if image is not None]
        new = found[ecu.new.version]
        if new is None:
            continue
        seen = {new.image.digest: new}
        jobs.append(Job(ecu, new, None))
        for source in ecu.old:
            old = found[source.version]
            if old is None:
                continue
            if old.image.digest in seen:
                notes.append(
                    f"{ecu.name} {source.version} has the same bytes as {seen[old.image.digest].source.version}"
                )
                continue
            seen[old.image.digest] = old
            jobs.append(Job(ecu, new, old))
    if problems:
        raise ImageError(
            "\n  ".join((f"release {release.name}: {len(problems)} images can't be used", *problems)),
            hint="correct the release file, or put the images there (those of the sample: make sample-images)",
        )
    return Plan(tuple(images), tuple(jobs), tuple(notes))


def _identify(
    ecu: EcuRelease, source: ImageSource, problems: list[str], on_bytes: Callable[[int], None] | None
) -> CollectedImage | None:
    what = f"{ecu.name} {source.version}: {source.path}"
    try:
        with source.path.open("rb") as stream:
            image = ImageId.of_stream(stream, on_bytes)
    except OSError as error:
        problems.append(f"{what}: can't be read: {error.strerror}")
        return None
    if not image.length_bytes:
        problems.append(f"{what}: is empty, expected an image")
    elif image.length_bytes > ecu.profile.flash_bytes:
        problems.append(f"{what}: has {image.length_bytes} bytes, but the flash holds {ecu.profile.flash_bytes}")
    return CollectedImage(ecu.hardware_id, source, image)
