"""`packager build`: a whole release from images to a signed repository."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import click

from packager.cli.files import EFFORT, TIME_BUDGET, note_without_matcher
from packager.cli.keys import KEYS_DIRECTORY
from packager.cli.options import JSON, PATH
from packager.cli.output import Output, size, table
from packager.cli.secrets import ask_secret
from packager.cli.times import ISSUED_AT, issue_time, now
from packager.config.policy import read_policy
from packager.config.release import read_release
from packager.model.jobs import BuiltBundle, Plan
from packager.model.release import Release
from packager.pipeline.build import Request, load_authority, make_release
from packager.pipeline.collect import collect
from packager.pipeline.report import LINKS_MBIT_PER_S, car_totals, seconds_over
from packager.pipeline.staging import check_place
from packager.pipeline.work import effort_of
from packager.pipeline.workers import processes
from packager.supplychain.front import read_links

STARTS = {"previous": "from the previous images", "oldest": "from the oldest images", "none": "from full bundles"}


@click.command()
@click.argument("release_file", metavar="RELEASE.toml", type=PATH)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to make; must be new or empty.")
@KEYS_DIRECTORY
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes. Default: one per core.",
)
@EFFORT
@TIME_BUDGET
@ISSUED_AT
@click.option(
    "--unsigned", is_flag=True, help="Leave the metadata to those who hold its keys; sign the supply chain alone."
)
@click.option(
    "--links",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory with the links of the policy's own steps, which packager chain run leaves.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan; write nothing.")
@JSON
def build(
    *,
    release_file: Path,
    out: Path,
    keys_directory: Path,
    jobs: int,
    effort: int,
    budget_s: float | None,
    issued_at: datetime | None,
    unsigned: bool,
    links: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build, check, sign and write the release that RELEASE.toml describes.

    Every bundle is applied with the vehicle's own code before anything is signed. DIR appears whole or not at all.
    """
    output = Output(as_json)
    release, description = read_release(release_file)
    time = issue_time(issued_at)
    policy = read_policy(keys_directory / "policy.toml")
    authority = load_authority(policy, release, keys_directory, ask_secret, is_signed=not unsigned)
    with output.progress("reading images", 0):
        plan = collect(release)
    for note in plan.notes:
        output.note(f"{note}: no bundle needed")
    efforts = {job.path: effort_of(job, effort, budget_s) for job in plan.jobs}
    check_place(out, plan.disk_bytes)
    if dry_run:
        _show_plan(output, release, plan, efforts)
        return
    note_without_matcher(output)
    request = Request(release, description, plan, authority, time, out, efforts, not unsigned, read_links(links))
    bundles = make_release(request, processes(jobs), output.progress)
    _show_release(output, release, bundles, out, is_signed=not unsigned)
    if not unsigned and time + timedelta(days=policy.timestamp.expires_days) <= now():
        output.note(
            f"{out}: issued {time:%Y-%m-%d}, so its timestamp has expired and cars refuse it; "
            f"before it is served: packager repo refresh {out}"
        )


def _show_plan(output: Output, release: Release, plan: Plan, efforts: Mapping[str, int]) -> None:
    rows = []
    for job in plan.jobs:
        old = "nothing (full)" if job.old is None else job.old.source.version
        new, effort = job.new.source.version, efforts[job.path]
        output.result("job", ecu=job.ecu.name, old_version=old, new_version=new, path=job.path, effort=effort)
        rows.append([job.ecu.name, old, new, size(job.new.image.length_bytes), str(effort), job.path])
    text = table(["ECU", "from", "to", "image", "effort", "bundle"], rows, 3)
    output.result(
        "summary",
        f"{text}\n{release.name} {release.version}: {len(plan.jobs)} bundles; may need {size(plan.disk_bytes)} of disk",
        jobs=len(plan.jobs),
        disk_bytes=plan.disk_bytes,
        dry_run=True,
    )


def _show_release(
    output: Output, release: Release, bundles: Sequence[BuiltBundle], out: Path, *, is_signed: bool
) -> None:
    rows = []
    for built in bundles:
        job = built.job
        percent = 100 * built.bundle.length_bytes / job.new.image.length_bytes
        output.result(
            "bundle",
            ecu=job.ecu.name,
            old_version=None if job.old is None else job.old.source.version,
            new_version=job.new.source.version,
            path=job.path,
            image_bytes=job.new.image.length_bytes,
            bundle_bytes=built.bundle.length_bytes,
        )
        rows.append(
            [
                job.ecu.name,
                f"{'(full)' if job.old is None else job.old.source.version} -> {job.new.source.version}",
                _codec_mix(built),
                str(job.new.image.length_bytes),
                str(built.bundle.length_bytes),
                f"{percent:.2f}",
                f"{built.measured.seconds:.1f}",
                f"{built.measured.peak_bytes / (1 << 20):.0f}",
                *(f"{seconds_over(built.bundle.length_bytes, mbit):.2f}" for mbit in LINKS_MBIT_PER_S),
            ]
        )
    headings = ["ECU", "old -> new", "blocks", "image B", "bundle B", "%", "build s", "peak MiB"]
    headings += [f"s @{mbit}M" for mbit in LINKS_MBIT_PER_S]
    title = f"{release.name} {release.version} for {release.car_line} (s @10M: seconds of download at 10 Mbit/s)"
    text = f"{title}\n{table(headings, rows, 3)}"
    state = "complete, verified and signed" if is_signed else "complete and verified; its metadata is to be signed"
    output.result(
        "summary",
        f"{text}\n\n{_car_table(release, bundles)}\n\n{out}: {state}",
        out=str(out),
        bundles=len(bundles),
        signed=is_signed,
    )


def _codec_mix(built: BuiltBundle) -> str:
    """Return how many blocks have which operation, the most frequent first; the coders are in the report."""
    counts: Counter[str] = Counter()
    for form, count in built.blocks_by_form:
        counts[form.split("+")[0]] += count
    return ", ".join(f"{count} {operation}" for operation, count in counts.most_common())


def _car_table(release: Release, bundles: Sequence[BuiltBundle]) -> str:
    rows = [
        [
            STARTS[total.start],
            size(total.bundle_bytes),
            f"{100 * total.bundle_bytes / total.image_bytes:.2f}",
            *(f"{seconds_over(total.bundle_bytes, mbit):.0f}" for mbit in LINKS_MBIT_PER_S),
            f"{total.install_s:.0f}",
            f"{total.bundle_bytes * release.fleet_cars / 1e12:.2f}",
        ]
        for total in car_totals(bundles)
    ]
    headings = ["one car", "download", "% of images", *(f"s @{mbit}M" for mbit in LINKS_MBIT_PER_S)]
    headings += ["install s", f"TB for {release.fleet_cars:,} cars"]
    return table(headings, rows, 1)
