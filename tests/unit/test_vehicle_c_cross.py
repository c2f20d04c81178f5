"""The C core for a microcontroller: freestanding, nothing but memory functions, and its code, RAM and stack are printed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.c.core import C_CODE, SOURCES, STRICT, compile_c, compiler

PREFIX = "arm-none-eabi-"
CORTEX_M4 = ("-ffreestanding", "-mcpu=cortex-m4", "-mthumb", "-Os")
MAX_TEXT_BYTES = 10 * 1024
MAX_PREDICT_TEXT_BYTES = 10 * 1024  # a third of it tables; a plain walk has 3 KiB less and takes twice as long
MAX_STATE_BYTES = 1024
MAX_STACK_BYTES = 1536
PREDICTION = ("predict.c", "predict_tables.c", "predict_units.c")
MEMORY_FUNCTIONS = {"memcpy", "memmove", "memset", "memcmp"}

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(f"{PREFIX}gcc") is None:
        pytest.skip("no arm-none-eabi-gcc here (Debian: gcc-arm-none-eabi)")
    directory = tmp_path_factory.mktemp("cortex-m4")
    for source in SOURCES:
        target = directory / f"{source.stem}.o"
        compile_c(
            f"{PREFIX}gcc", *STRICT, *CORTEX_M4, "-fstack-usage", "-fcallgraph-info=su", "-c", source, "-o", target
        )
    return directory


@pytest.mark.parametrize("command", ["gcc", "clang"])
@pytest.mark.parametrize("name", ["adaptive.c", *PREDICTION, "segments.c"])
def test_what_is_no_part_of_the_core_compiles_without_a_warning(name: str, command: str, tmp_path: Path) -> None:
    compile_c(compiler(command), *STRICT, "-ffreestanding", "-O2", "-c", C_CODE / name, "-o", tmp_path / "part.o")


def test_prediction_on_a_microcontroller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no part of the core; a reader of predicted blocks adds this much code, no data, and no library but memset."""
    target = tmp_path / "predict.o"
    compile_c(
        compiler(f"{PREFIX}gcc"),
        *STRICT,
        *CORTEX_M4,
        "-r",
        "-nostdlib",
        *(C_CODE / name for name in PREDICTION),
        "-o",
        target,
    )
    text, data, bss = map(int, _output("size", target).splitlines()[1].split()[:3])
    wanted = set(re.findall(r"^ +U (\w+)$", _output("nm", target), re.MULTILINE))
    with capsys.disabled():
        print(f"\nCortex-M4, -Os: predict text {text} bytes (tables included), data {data} + bss {bss}")
    assert text <= MAX_PREDICT_TEXT_BYTES
    assert data + bss == 0
    assert {name for name in wanted if not name.startswith("__aeabi_")} <= {"memset", "ota_varint"}


def _output(tool: str, *arguments: str | Path) -> str:
    return subprocess.run([f"{PREFIX}{tool}", *arguments], capture_output=True, text=True, check=True).stdout


def _worst_stack_bytes(directory: Path) -> int:
    """Return the deepest call chain, from the call graphs that the compiler wrote. Callbacks of the caller are not in it."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for graph in directory.glob("*.ci"):
        text = graph.read_text()

        def key(title: str) -> str:
            return title.rsplit(":", 1)[-1] if title.rsplit(":", 1)[-1].startswith("ota_") else title

        for title, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?\\n(\d+) bytes', text):
            frames[key(title)] = int(size)
        for caller, callee in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
            calls.setdefault(key(caller), set()).add(key(callee))

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"recursion: {above} {name}"
        return frames.get(name, 0) + max((depth(callee, (*above, name)) for callee in calls.get(name, ())), default=0)

    return max(depth(name) for name in ("ota_begin", "ota_feed", "ota_finish", "ota_arena_bytes"))


def test_it_needs_only_the_memory_functions_and_the_compilers_own(objects: Path) -> None:
    listing = _output("nm", *objects.glob("*.o"))
    wanted = set(re.findall(r"^ +U (\w+)$", listing, re.MULTILINE))
    defined = set(re.findall(r"^[0-9a-f]+ T (\w+)$", listing, re.MULTILINE))
    others = {name for name in wanted - defined if not name.startswith("__aeabi_")}
    assert others <= MEMORY_FUNCTIONS


def test_code_and_ram(objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in _output("size", *sorted(objects.glob("*.o"))).splitlines()[1:]]
    text_bytes, data_bytes, bss_bytes = (sum(int(row[column]) for row in rows) for column in range(3))
    state = tmp_path / "state.c"
    state.write_text('#include "core.h"\nstruct ota ota;\n')
    compile_c(f"{PREFIX}gcc", *STRICT, *CORTEX_M4, f"-I{C_CODE}", "-c", state, "-o", tmp_path / "state.o")
    state_bytes = int(_output("size", tmp_path / "state.o").splitlines()[1].split()[2])
    stack_bytes = _worst_stack_bytes(objects)
    with capsys.disabled():
        print(
            f"\nCortex-M4, -Os: text {text_bytes} bytes ({', '.join(f'{Path(row[5]).stem} {row[0]}' for row in rows)})"
        )
        print(
            f"data {data_bytes} + bss {bss_bytes}, struct ota {state_bytes}, worst stack {stack_bytes} bytes without callbacks"
        )
    assert text_bytes <= MAX_TEXT_BYTES
    assert data_bytes + bss_bytes == 0
    assert state_bytes <= MAX_STATE_BYTES
    assert 0 < stack_bytes <= MAX_STACK_BYTES
