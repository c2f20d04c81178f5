"""The C core: what it makes, what it refuses, and the memory that it takes; plain and under AddressSanitizer and UBSan."""

import hashlib
import re
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff.engine import Alignment, align
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment
from packager.vehicle.profile import Coder, UpdateProfile, read_profile
from packager.vehicle.table import Table
from sample_images.modules import KnownEdit
from sample_images.synthesiser import FirmwareSpec, synthesise_bytes, with_edit
from tests.c.core import (
    ARENA,
    BLOCK_SIZE,
    C_CODE,
    CODER,
    CORRUPT,
    CUTS,
    FAILURES,
    FEATURE,
    FLIPS,
    INCOMPATIBLE,
    OLD_IMAGE,
    ROOT,
    SLOT,
    SOURCES,
    STRICT,
    TRUNCATIONS,
    Core,
    compile_c,
    compiler,
)
from tests.sample_bundles import (
    BLOCK,
    COPY,
    DELTA,
    FILL,
    RAW,
    Sample,
    delta_one_block,
    full_mixed,
    full_one_block,
    make,
    noise,
    samples,
)

RAW_ONLY = frozenset({Coder.RAW})
SMALL = UpdateProfile(coders=RAW_ONLY, block_bytes=BLOCK, ram_bytes=1 << 20)
ARENA_LIMIT_BYTES = 256 * 1024


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "sanitized"])
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    core = Core(sanitized=request.param)
    yield core
    core.close()


def delta_raw() -> Sample:
    """Return a bundle with every operation that the core knows, pieces across blocks, and a short last block."""
    old = noise(1, 3 * BLOCK)
    segments = [Segment(0, BLOCK, 1000), Segment(1000, 100, BLOCK - 1000 + 300)]
    new = bytearray(old[BLOCK : BLOCK + 1000] + old[100 : BLOCK - 900 + 300])
    for index in range(30):
        segments.append(Segment(len(new), 5000 + index * 50, 40))
        new += old[5000 + index * 50 : 5040 + index * 50] + bytes((index,))
    follow = 2 * BLOCK - len(new)
    segments.append(Segment(len(new), 2 * BLOCK, follow))
    new += old[2 * BLOCK : 2 * BLOCK + follow]
    for at in range(BLOCK + 3, 2 * BLOCK, 41):
        new[at] = (new[at] + 5) & 0xFF
    new += b"\xff" * BLOCK + noise(2, BLOCK)
    segments.append(Segment(len(new), 7, 900))
    new += old[7:907]
    return make("delta-raw", old, bytes(new), [COPY, DELTA, FILL, RAW, COPY], segments, coders=RAW_ONLY)


def small_delta() -> Sample:
    """Return the same in miniature, for tests that try every byte; many blocks would not be more paths."""
    old = noise(3, 2 * BLOCK)
    new = old[50:BLOCK] + b"x" * 50 + b"\0" * BLOCK + old[:100] + b"y" + old[101:160]
    segments = [Segment(0, 50, BLOCK - 50), Segment(2 * BLOCK, 0, 100), Segment(2 * BLOCK + 101, 101, 59)]
    return make("small-delta", old, new, [DELTA, FILL, DELTA], segments, coders=RAW_ONLY, hardware_ids=("a", "b"))


def large(blocks: int = 256) -> Sample:
    """Return a delta of 1 MiB (256 blocks) in blocks of 4 KiB: most copied from another place, some changed or new."""
    old = bytearray(noise(4, blocks * BLOCK))
    new = bytearray(old[33:] + old[:33])
    for at in range(10, len(new), 9973):
        new[at] ^= 0x5A
    new[40 * BLOCK : 41 * BLOCK] = noise(5, BLOCK)
    new[50 * BLOCK : 51 * BLOCK] = b"\xff" * BLOCK
    segments = [Segment(0, 33, len(new) - 33), Segment(len(new) - 33, 0, 33)]
    made = encode(bytes(old), bytes(new), Alignment(segments), SMALL, Label(7, "7.0", ("gw-1",)), level=1)
    return Sample("large", bytes(old), bytes(new), made.written.data, made.written.head_bytes)


SUPPORTED = [full_one_block, delta_one_block, delta_raw, small_delta, large]


@pytest.mark.parametrize("own_hasher", [False, True])
@pytest.mark.parametrize("maker", SUPPORTED)
def test_it_makes_the_new_image(core: Core, maker, own_hasher: bool) -> None:
    sample = maker()
    answer = core.ask(sample, own_hasher=own_hasher)
    assert (answer.error, answer.next_offset) == (0, len(sample.data))
    assert answer.slot == sample.new


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_golden_bundles_are_made_or_refused_by_their_features(core: Core, sample: Sample) -> None:
    answer = core.ask(sample)
    if sample.head.manifest.coders == RAW_ONLY and int.from_bytes(sample.data[8:12], "little") == 0:
        assert answer.error == 0
        assert answer.slot == sample.new
    else:
        assert answer.error == FEATURE
        assert answer.slot == b"\xee" * len(sample.new)


@pytest.mark.parametrize("chunk", [1, 2, 63, 64, 4095, 1 << 20])
def test_any_chunks(core: Core, chunk: int) -> None:
    sample = delta_raw()
    answer = core.ask(sample, chunk=chunk)
    assert answer.error == 0
    assert answer.slot == sample.new


@pytest.mark.parametrize("maker", [full_one_block, delta_one_block, small_delta])
def test_every_flipped_byte_is_refused(core: Core, maker) -> None:
    sample = maker()
    answer = core.ask(sample, FLIPS, chunk=1 << 20)
    assert (answer.tried, answer.wrong) == (3 * len(sample.data), 0)


@pytest.mark.parametrize("maker", [full_one_block, delta_one_block, small_delta])
def test_every_truncation_is_refused(core: Core, maker) -> None:
    answer = core.ask(maker(), TRUNCATIONS, chunk=1 << 20)
    assert (answer.tried, answer.wrong) == (len(maker().data), 0)


def test_bytes_after_the_last_blob_are_refused(core: Core) -> None:
    sample = delta_raw()
    longer = Sample("", sample.old, sample.new, sample.data + b"\0", sample.head_bytes)
    assert core.ask(longer, chunk=1).fault == core.ask(longer).fault == CORRUPT


def test_after_a_cut_at_every_byte_no_finished_blob_is_wanted_again(core: Core) -> None:
    sample = small_delta()
    answer = core.ask(sample, CUTS, chunk=1 << 20)
    assert (answer.tried, answer.wrong) == (len(sample.data) - sample.head_bytes, 0)


def test_an_image_that_is_there_needs_no_blob(core: Core) -> None:
    sample = delta_raw()
    head_only = Sample("", sample.old, sample.new, sample.data[: sample.head_bytes], sample.head_bytes)
    answer = core.ask(head_only, slot=sample.new)
    assert (answer.error, answer.blocks_done, answer.next_offset) == (0, 5, len(sample.data))


@pytest.mark.parametrize("maker", [delta_one_block, delta_raw])
@pytest.mark.parametrize("own_hasher", [False, True])
def test_every_failing_callback_is_an_error_and_the_next_start_goes_on(core: Core, maker, own_hasher: bool) -> None:
    answer = core.ask(maker(), FAILURES, own_hasher=own_hasher)
    assert answer.tried >= 7  # accept, slot, old image, write, sync, read-back, then none
    assert answer.wrong == 0


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("maker", [delta_one_block, delta_raw])
def test_another_old_image_is_refused(core: Core, maker, position: int) -> None:
    sample = maker()
    old = bytearray(sample.old or b"")
    old[position if maker is delta_one_block else BLOCK + 5] ^= 1
    answer = core.ask(Sample("", bytes(old), sample.new, sample.data, sample.head_bytes))
    assert answer.error == OLD_IMAGE
    assert set(answer.slot) == {0xEE}


def test_nothing_is_parsed_before_the_signed_hash(core: Core) -> None:
    sample = delta_raw()
    answer = core.ask(sample, signed_sha256=bytes(32))
    assert answer.error == 0x10
    assert answer.arena_needed == 0


def test_limits_of_the_ecu_from_both_sides(core: Core) -> None:
    sample = delta_raw()
    longest = max(len(sample.new), len(sample.old or b""))
    assert core.ask(sample, slot_limit=longest, block_limit=BLOCK).error == 0
    assert core.ask(sample, slot_limit=longest - 1).error == SLOT
    assert core.ask(sample, block_limit=2 * BLOCK).error == BLOCK_SIZE


def test_a_manifest_with_a_coder_that_no_feature_announced(core: Core) -> None:
    sample = full_mixed()
    body = sample.data[:8] + bytes(4) + sample.data[12 : sample.head_bytes - 32]
    head = body + hashlib.sha256(body).digest()
    answer = core.ask(Sample("", None, sample.new, head + sample.blobs, len(head)))
    assert (answer.error, answer.fault) == (CODER, INCOMPATIBLE)


@pytest.mark.parametrize("maker", SUPPORTED)
def test_the_arena_is_exact(core: Core, maker) -> None:
    sample = maker()
    needed = core.ask(sample).arena_needed
    manifest = sample.head.manifest
    implied = len(sample.old) if sample.old and manifest.block_count == 1 else 0
    assert needed == sample.head_bytes + manifest.max_blob_bytes + manifest.max_output_bytes + implied
    assert needed <= manifest.memory_bytes
    exact, short = core.ask(sample, arena_bytes=needed), core.ask(sample, arena_bytes=needed - 1)
    assert exact.error == 0
    assert exact.slot == sample.new
    assert (short.error, short.arena_needed, short.blocks_done) == (ARENA, needed, 0)
    without_head = core.ask(sample, arena_bytes=sample.head_bytes - 1)
    assert (without_head.error, without_head.arena_needed) == (ARENA, sample.head_bytes)


def test_small_profile_of_one_mib_fits_256_kib(core: Core, capsys: pytest.CaptureFixture[str]) -> None:
    sample = large()
    answer = core.ask(sample, arena_bytes=ARENA_LIMIT_BYTES)
    assert len(sample.new) == 1 << 20
    assert answer.error == 0
    assert answer.slot == sample.new
    with capsys.disabled():
        print(f"\n1 MiB delta in blocks of 4 KiB: arena of {answer.arena_needed} bytes")


def test_bundles_for_the_profile_of_the_page_are_taken(core: Core) -> None:
    """Of machine code, which gets predicted blocks unless the profile says that the ECU lacks them."""
    page = (ROOT / "docs/embedding/README.md").read_text()
    block = re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block
    problems: list[str] = []
    profile = read_profile(Table(tomllib.loads(block[1])["ecu"]["profile"], "", problems))
    assert problems == []
    spec = FirmwareSpec("thumb2", 64 << 10, 13)
    old, new = synthesise_bytes(spec), synthesise_bytes(with_edit(spec, KnownEdit.INSERT_INSTRUCTION))
    found = align(old, new)
    for limits, is_predicted in ((profile, False), (replace(profile, predictors=True), True)):
        made = encode(old, new, found, limits, Label()).written
        sample = Sample("machine code", old, new, made.data, made.head_bytes)
        answer = core.ask(sample, arena_bytes=profile.ram_bytes)
        assert (Op.PREDICTED in sample.head.manifest.ops) == is_predicted
        if is_predicted:
            assert answer.error == FEATURE
        else:
            assert (answer.error, answer.slot == new) == (0, True)


def moved(blocks: int) -> Sample:
    """Return a delta whose blocks are copies from one place further on, but for a raw one."""
    old = noise(6, blocks * BLOCK + 1)
    new = noise(7, BLOCK) + old[BLOCK + 1 :]
    forms = [RAW] + [COPY] * (blocks - 1)
    return make("moved", old, new, forms, [Segment(BLOCK, BLOCK + 1, len(new) - BLOCK)], coders=RAW_ONLY)


def test_the_largest_image_for_256_kib(core: Core) -> None:
    """As docs/embedding/README.md says: 2,537 blocks, 9.9 MiB, where the segment map is short; one more is refused."""
    needed = core.ask(moved(300)).arena_needed
    per_block = core.ask(moved(301)).arena_needed - needed
    most = 300 + (ARENA_LIMIT_BYTES - needed) // per_block
    assert (per_block, most) == (100, 2537)
    sample = moved(most)
    answer = core.ask(sample, arena_bytes=ARENA_LIMIT_BYTES, chunk=1 << 16)
    assert (answer.error, answer.slot == sample.new) == (0, True)
    assert core.ask(moved(most + 1), arena_bytes=ARENA_LIMIT_BYTES).error == ARENA


def test_text_of_every_error(tmp_path: Path) -> None:
    numbers = re.findall(
        r"^    (OTA_[A-Z_]+)(?: = 0x[0-9a-f]+)?,?$", (C_CODE / "core_head.h").read_text(), re.MULTILINE
    )
    numbers = [name for name in numbers if name != "OTA_OK"]
    assert len(numbers) > 30
    lines = "".join(f'printf("%d %s\\n", (int)ota_error_class({name}), ota_error_text({name}));' for name in numbers)
    source = tmp_path / "texts.c"
    source.write_text(f'#include <stdio.h>\n#include "core.h"\nint main(void) {{ {lines} return 0; }}\n')
    compile_c(compiler("gcc", "clang", "cc"), *STRICT, f"-I{C_CODE}", source, *SOURCES, "-o", tmp_path / "texts")
    printed = subprocess.run([tmp_path / "texts"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert all(re.fullmatch(r"[1-4] [a-z ]+: .+", line) for line in printed)
    assert len(set(printed)) == len(numbers)


def test_the_example_program_applies_a_bundle(tmp_path: Path) -> None:
    program, sample = tmp_path / "apply_bundle", large()
    example = ROOT / "docs/embedding/apply_bundle.c"
    compile_c(compiler("gcc", "clang", "cc"), *STRICT, f"-I{C_CODE}", example, *SOURCES, "-o", program)
    for name, content in (("old", sample.old), ("bundle", sample.data), ("new", b"")):
        (tmp_path / name).write_bytes(content or b"")

    def run(sha256: bytes, bundle: str = "bundle") -> tuple[int, str]:
        arguments = [bundle, str(sample.head_bytes), sha256.hex(), "new", "old"]
        done = subprocess.run([program, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout.split(" (")[0]

    assert run(bytes(32)) == (60, "head: not the signed bytes")
    usage = "usage: apply_bundle BUNDLE HEAD_BYTES HEAD_SHA256 NEW [OLD]; BUNDLE and NEW must be there\n"
    assert run(sample.signed.digest.value[:31]) == run(sample.signed.digest.value, "missing") == (2, usage)
    assert (tmp_path / "new").read_bytes() == b""
    assert run(sample.signed.digest.value) == (0, "no error")
    assert (tmp_path / "new").read_bytes() == sample.new
    (tmp_path / "new").write_bytes(sample.new[:-1])
    assert run(sample.signed.digest.value) == (0, "no error")
    assert (tmp_path / "new").read_bytes() == sample.new
    assert subprocess.run([program], stdout=subprocess.DEVNULL, check=False).returncode == 2
    assert len(example.read_text().splitlines()) <= 50


def test_the_command_of_the_page_builds_the_example(tmp_path: Path) -> None:
    page = (ROOT / "docs/embedding/README.md").read_text()
    command = re.search(r"^    cc (.*?) -o apply_bundle$", page, re.MULTILINE | re.DOTALL)
    assert command
    line = f"{compiler('cc', 'gcc', 'clang')} {command[1]} -o {tmp_path / 'apply_bundle'}"
    subprocess.run(["sh", "-c", line.replace("\\\n", " ")], cwd=ROOT, check=True)
    assert (tmp_path / "apply_bundle").exists()


@pytest.mark.parametrize("command", ["gcc", "clang"])
def test_it_compiles_without_a_warning(command: str, tmp_path: Path) -> None:
    found = compiler(command)
    for source in SOURCES:
        compile_c(found, *STRICT, "-Wconversion", "-Wshadow", "-O2", "-c", source, "-o", tmp_path / "object.o")


@pytest.mark.parametrize("command", ["gcc", "clang"])
def test_extensions_of_python_compile_without_a_warning(command: str) -> None:
    found, headers = compiler(command), Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        pytest.skip(f"no {headers / 'Python.h'} here")
    sources = sorted([*C_CODE.glob("*.c"), *(ROOT / "packager/diff").glob("*.c")])
    assert {"_native.c", "_match.c"} <= {source.name for source in sources}
    compile_c(found, *STRICT, "-Wshadow", "-O2", "-isystem", headers, "-fsyntax-only", *sources)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 100_000])
def test_sha256_is_that_of_the_standard_library(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    directory = tmp_path_factory.getbasetemp()
    program = directory / "sha256"
    if not program.exists():
        source = directory / "sha256_main.c"
        source.write_text(
            '#include <stdio.h>\n#include "sha256.h"\nint main(void) { struct ota_sha256 hash; uint8_t buffer[97], digest[32]; '
            "size_t got; ota_sha256_begin(&hash); while ((got = fread(buffer, 1, sizeof buffer, stdin)) > 0) "
            "{ ota_sha256_update(&hash, buffer, got); } ota_sha256_end(&hash, digest); fwrite(digest, 1, 32, stdout); return 0; }"
        )
        compile_c(compiler("gcc", "clang", "cc"), *STRICT, f"-I{C_CODE}", source, C_CODE / "sha256.c", "-o", program)
    data = noise(length, length)
    assert (
        subprocess.run([program], input=data, capture_output=True, check=True).stdout == hashlib.sha256(data).digest()
    )
