"""`packager inspect`: what a bundle is, what it asks of the ECU, and where its bytes go."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from packager.bundle.anatomy import BlockAnatomy, ModeUse, count_modes, dissect_file
from packager.bundle.check import apply_to_file
from packager.bundle.hits import Hits, count_hits
from packager.bundle.loose import ANY_PROFILE, LooseBundle, naming
from packager.cli.options import JSON, PATH, read_image
from packager.cli.output import Output, size, table
from packager.vehicle.core.head import Head
from packager.vehicle.core.manifest import Op
from packager.vehicle.identity import ImageId
from packager.vehicle.profile import Coder


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--blocks", is_flag=True, help="List every block.")
@click.option("--old", type=PATH, help="The old image: also count how often the prediction was right.")
@JSON
def inspect(*, bundle: Path, blocks: bool, old: Path | None, as_json: bool) -> None:
    """Show what BUNDLE is, what it asks of the ECU, and where its bytes go."""
    output = Output(as_json)
    head = LooseBundle.open(bundle, ANY_PROFILE).head
    dissected = list(dissect_file(bundle, head))
    modes = count_modes(head)
    hits = _count_hits(bundle, head, dissected, old) if old is not None else []
    _show_head(output, bundle, head)
    for number, mode in enumerate(modes if as_json else ()):
        output.result("mode", mode=number, **_mode_facts(mode, hits[number : number + 1]))
    for block in dissected if as_json else ():
        output.result("block", **_block_facts(head, block))
    tables = [_form_table(head, dissected), _column_table(dissected)]
    tables += [_mode_table(modes, hits)] if modes else []
    tables += [_block_table(head, dissected)] if blocks else []
    sizes = {"bundle_bytes": head.bundle_bytes, "head_bytes": head.length_bytes, "blocks": len(dissected)}
    output.result("summary", "\n".join(tables), **sizes)


def _form_table(head: Head, blocks: Sequence[BlockAnatomy]) -> str:
    counts = Counter(block.record.op for block in blocks)
    sums: Counter[Op] = Counter()
    for block in blocks:
        sums[block.record.op] += block.record.blob_bytes
    rows = [["head", "", str(head.length_bytes)]]
    rows += [[op.name.lower(), str(counts[op]), str(sums[op])] for op in sorted(counts)]
    rows += [["total", str(len(blocks)), str(head.bundle_bytes)]]
    return "\n" + table(["part", "blocks", "bytes"], rows, 1)


def _column_table(blocks: Sequence[BlockAnatomy]) -> str:
    """Return where the bytes of the blobs go, by operation, column and coder."""
    sums: dict[tuple[Op, int, str, Coder], list[int]] = {}
    for block in blocks:
        for place, column in enumerate(block.columns):
            total = sums.setdefault((block.record.op, place, column.name, column.coder), [0, 0, 0])
            for index, more in enumerate((1, column.coded_bytes, column.decoded_bytes)):
                total[index] += more
    rows = [
        [op.name.lower(), name, coder.name.lower(), *map(str, total)]
        for (op, _, name, coder), total in sorted(sums.items())
    ]
    return "\n" + table(["operation", "column", "coder", "blocks", "coded", "decoded"], rows, 3)


def _mode_table(modes: Sequence[ModeUse], hits: Sequence[Hits]) -> str:
    rows = []
    for number, mode in enumerate(modes):
        groups = " ".join(str(group.name).lower() for group in mode.groups) or "nothing"
        rows.append([str(number), mode.instruction_set.name.lower(), groups, f"{mode.base:#x}", str(mode.pages)])
        rows[-1] += [f"{found.predicted_bytes} / {found.missed_bytes}" for found in hits[number : number + 1]]
    headings = ["mode", "instruction set", "predicted", "base", "pages", "bytes right / wrong"]
    return "\n" + table(headings[: 6 if hits else 5], rows, 3)


def _mode_facts(mode: ModeUse, hits: Sequence[Hits]) -> dict[str, Any]:
    groups = [str(group.name).lower() for group in mode.groups]
    facts = {"instruction_set": mode.instruction_set.name.lower(), "groups": groups, "base": mode.base}
    counts = [{"predicted_bytes": found.predicted_bytes, "missed_bytes": found.missed_bytes} for found in hits]
    return {**facts, "pages": mode.pages, **{name: count for found in counts for name, count in found.items()}}


def _count_hits(bundle: Path, head: Head, blocks: Sequence[BlockAnatomy], old: Path) -> Sequence[Hits]:
    """Apply the bundle, then count; in a full or in-place bundle nothing is predicted."""
    if head.predictors is None:
        return []
    with tempfile.TemporaryDirectory(prefix="packager-") as scratch:
        new = Path(scratch) / "new"
        with naming(bundle):
            apply_to_file(bundle, head, old, new)
        return count_hits(head, blocks, read_image(old), read_image(new))


def _block_facts(head: Head, block: BlockAnatomy) -> dict[str, Any]:
    record = block.record
    facts: dict[str, Any] = {
        "block": record.block,
        "operation": record.op.name.lower(),
        "blob_offset": head.length_bytes + record.blob_offset,
        "blob_bytes": record.blob_bytes,
        "columns": [
            {
                "column": column.name,
                "coder": column.coder.name.lower(),
                "coded_bytes": column.coded_bytes,
                "decoded_bytes": column.decoded_bytes,
            }
            for column in block.columns
        ],
    }
    if record.op is Op.PREDICTED:
        facts |= {
            "unit_bytes": block.unit_bytes,
            "corrections": block.corrections,
            "literals_know": block.literals_know or "nothing",
            "has_pieces": block.has_pieces,
        }
    return facts


def _block_table(head: Head, blocks: Sequence[BlockAnatomy]) -> str:
    rows = []
    for block in blocks:
        columns = ", ".join(
            f"{column.name} {column.coded_bytes} of {column.decoded_bytes}"
            for column in block.columns
            if column.coded_bytes
        )
        if block.record.op is Op.PREDICTED:
            columns += f", {block.corrections} corrections of {block.unit_bytes} bytes"
            columns += f", literals know the {block.literals_know}" if block.literals_know else ""
        place = str(head.length_bytes + block.record.blob_offset)
        rows.append(
            [block.record.op.name.lower(), str(block.record.block), place, str(block.record.blob_bytes), columns]
        )
    return "\n" + table(["operation", "block", "offset", "bytes", "columns"], rows, 1)


def _show_head(output: Output, bundle: Path, head: Head) -> None:
    manifest = head.manifest
    facts = {
        "kind": manifest.kind.name.lower(),
        "new": str(manifest.new),
        "old": "none" if manifest.old is None else str(manifest.old),
        "version": manifest.version or "none",
        "release counter": manifest.release_counter,
        "hardware ids": ", ".join(manifest.hardware_ids) or "any (loose bundle)",
        "slot": f"the old one, with {size(manifest.scratch_bytes)} of scratch" if manifest.in_place else "a spare one",
        "block size": size(manifest.block_bytes),
        "memory": size(manifest.memory_bytes),
        "coders": ", ".join(coder.name.lower() for coder in sorted(manifest.coders)),
        "segments": manifest.segment_count,
        "head": f"{head.length_bytes} bytes, {head.digest}",
    }
    text = "\n".join(f"{name + ':':16} {value}" for name, value in facts.items())
    output.result(
        "bundle",
        f"{bundle}\n{text}",
        kind=manifest.kind.name.lower(),
        new=_image_facts(manifest.new),
        old=None if manifest.old is None else _image_facts(manifest.old),
        version=manifest.version or None,
        release_counter=manifest.release_counter,
        hardware_ids=list(manifest.hardware_ids),
        in_place=manifest.in_place,
        scratch_bytes=manifest.scratch_bytes,
        block_bytes=manifest.block_bytes,
        memory_bytes=manifest.memory_bytes,
        coders=[coder.name.lower() for coder in sorted(manifest.coders)],
        segments=manifest.segment_count,
        head={"length": head.length_bytes, head.digest.algorithm: head.digest.hex},
    )


def _image_facts(image: ImageId) -> dict[str, Any]:
    return {"length": image.length_bytes, image.digest.algorithm: image.digest.hex}
