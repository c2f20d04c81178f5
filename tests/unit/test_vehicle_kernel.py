"""Which kernel is chosen, and that it is said why it is not the compiled one."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import packager.vehicle
from packager.vehicle import _pure, kernel

HERE = Path(kernel.__file__)
FUNCTIONS = (
    "apply_delta", "label_source", "label_block", "add_units", "read_segments", "cut_pieces", "plan_reads", "scatter",
    "join_pieces", "address_map", "read_values", "add_adaptive", "write_adaptive",
)  # fmt: skip


def chosen(monkeypatch: pytest.MonkeyPatch, native: Any, pure: str = "") -> ModuleType:
    """Choose anew, with another compiled kernel."""
    monkeypatch.setenv("PACKAGER_PURE", pure)
    monkeypatch.setattr(packager.vehicle, "_native", native, raising=False)
    spec = importlib.util.spec_from_file_location("chosen", HERE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(NAME="C", **dict.fromkeys(FUNCTIONS, len), **fields)


def test_one_of_the_right_interface_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made = chosen(monkeypatch, compiled(INTERFACE=kernel.INTERFACE))
    assert (made.NAME, made.PROBLEM, made.DESCRIPTION, made.IS_UNEXPECTED) == ("C", "", "C", False)
    assert all(getattr(made, name) is len for name in FUNCTIONS)


@pytest.mark.parametrize("interface", [kernel.INTERFACE - 1, kernel.INTERFACE + 1, None])
def test_a_stale_one_is_noticed(monkeypatch: pytest.MonkeyPatch, interface: int | None) -> None:
    made = chosen(monkeypatch, compiled(**({} if interface is None else {"INTERFACE": interface})))
    assert made.apply_delta is _pure.apply_delta
    assert made.IS_UNEXPECTED
    found = interface or 0
    wanted = f"pure Python: the compiled one has interface {found}, expected {kernel.INTERFACE}; compile it again with make setup"
    assert wanted == made.DESCRIPTION


def test_it_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = chosen(monkeypatch, compiled(INTERFACE=kernel.INTERFACE), pure="1")
    assert (module.DESCRIPTION, module.IS_UNEXPECTED) == ("pure Python: PACKAGER_PURE is set", False)


@pytest.mark.parametrize(
    ("content", "said", "is_warned"), [(None, "no compiled one was built", False), (b"junk", "can't be loaded:", True)]
)
def test_one_that_is_not_there_and_one_that_can_not_be_loaded(
    tmp_path: Path, content: bytes | None, said: str, is_warned: bool
) -> None:
    place = tmp_path / "packager"
    place.mkdir()
    shutil.copy(HERE.parents[1] / "__init__.py", place)
    shutil.copytree(HERE.parent, place / "vehicle", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    if content is not None:
        (place / "vehicle" / "_native.abi3.so").write_bytes(content)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from packager.vehicle.cli.program import main; main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PATH": ""}
    )
    assert done.stdout.startswith("packager-vehicle ")
    assert f"(kernel: pure Python: {'the compiled one ' if is_warned else ''}{said}" in " ".join(done.stdout.split())
    assert (said in done.stderr) == is_warned
