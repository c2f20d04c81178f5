"""Modes and costs are chosen the same way however many threads share the work."""

import random

import pytest

from packager.bundle.encoder import Label, encode
from packager.diff import candidates, engine, prediction
from packager.diff.engine import Alignment, align, dump, level_of
from packager.diff.prediction import NOTHING
from packager.vehicle.instructions import InstructionSet
from packager.vehicle.profile import DEFAULT_PROFILE
from tests import needs
from tests.predicted_bundles import firmware
from tests.sample_bundles import noise

pytestmark = needs.MATCHER


def edited(data: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    made = bytearray(data)
    for _ in range(200):
        made[chance.randrange(len(made))] = chance.randrange(256)
    return bytes(made[:9000] + noise(seed, 500) + made[9000:])


@pytest.mark.parametrize("kind", ["thumb2", "words", "noise"])
@pytest.mark.parametrize("effort", [1, 5, 7])
def test_threads_change_nothing(kind: str, effort: int) -> None:
    if kind == "thumb2":
        old, new = firmware("thumb2")
    else:
        old = noise(3, 700_000) if kind == "noise" else b"".join((i * 7).to_bytes(4, "little") for i in range(60_000))
        new = edited(old, 4)
    alone = align(old, new, effort=effort, threads=1)
    bundle = encode(old, new, alone, DEFAULT_PROFILE, Label(), threads=1).written.data
    for threads in (2, 3):
        shared = align(old, new, effort=effort, threads=threads)
        assert dump(shared) == dump(alone)
        assert encode(old, new, shared, DEFAULT_PROFILE, Label(), threads=threads).written.data == bundle


def test_an_ecu_without_predictors_gets_an_alignment_of_the_images_themselves() -> None:
    old, new = firmware("thumb2")
    alignment = align(old, new, predicts=False)
    assert alignment.prediction is None
    assert alignment.segments


@pytest.mark.parametrize("effort", [1, 2, 5])
def test_every_effort_finds_what_moved(effort: int) -> None:
    """The least effort guesses an instruction set without trying it: calls to what moved must cost nothing all the same."""
    old, new = firmware("thumb2")
    alignment = align(old, new, effort=effort)
    assert alignment.prediction is not None
    assert any(mode.instruction_set is InstructionSet.THUMB2 for mode in alignment.prediction.modes)
    made = encode(old, new, alignment, DEFAULT_PROFILE, Label(), level_of(effort)).written.data
    without = encode(old, new, Alignment(alignment.segments), DEFAULT_PROFILE, Label(), level_of(effort)).written.data
    assert len(made) < len(without) * 0.9


def test_noise_is_not_guessed_to_be_code() -> None:
    old = noise(3, 60_000)
    found = align(old, edited(old, 4), effort=1).prediction
    assert found is not None
    assert found.modes == (NOTHING,)


def arm(functions: int, padding: int, tail: bytes) -> bytes:
    """Return ARM code in which each tenth instruction calls a function, with more of it in the middle, in front of other data."""
    starts = [400 * number + (padding if number >= functions // 2 else 0) for number in range(functions)]
    chance, made = random.Random(7), bytearray()
    for start in starts:
        made += bytes.fromhex("0000a0e1") * ((start - len(made)) // 4)
        for at in range(start, start + 400, 4):
            distance = (chance.choice(starts) - at - 8) >> 2
            is_call = chance.random() < 0.1
            word = 0xEB000000 | distance & 0xFFFFFF if is_call else 0xE0800000 | chance.randrange(8) << 12
            made += word.to_bytes(4, "little")
    return bytes(made) + tail


@pytest.mark.parametrize("rematched_bytes", [1 << 20, 1 << 10])
def test_data_that_looks_like_calls_does_not_hide_the_code(
    monkeypatch: pytest.MonkeyPatch, rematched_bytes: int
) -> None:
    """One in eight random words is a branch of ARM. Pages of data go without the mode, so that they don't vote against it, either."""
    for module in (candidates, prediction):
        monkeypatch.setattr(module, "REMATCHED_BYTES", rematched_bytes)
    tail = noise(7, 40_000)
    found = align(arm(100, 0, tail), arm(100, 64, tail)).prediction
    assert found is not None
    assert any(mode.instruction_set is InstructionSet.ARM32 for mode in found.modes)


def test_short_images_without_code_are_also_aligned_with_the_coarsest_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of text where fields change: what stands around them is worth following further than in code."""
    draw = random.Random(1)
    names = ["".join(draw.choice("aeiourstlnmdk") for _ in range(draw.randrange(4, 12))) for _ in range(300)]

    def row() -> str:
        degrees = [draw.randrange(10**9) / 10**7 for _ in range(2)]
        words = [draw.choice(names) for _ in range(4)]
        return f'"{words[0]}","{words[1]} airport","{words[2]}","XX-{draw.randrange(90)}",{degrees[0]},{degrees[1]},"Zone/{words[3]}"\n'

    rows = [row() for _ in range(4000)]
    old = "".join(rows).encode()
    for number in range(0, 4000, 9):
        fields = rows[number].split(",")
        fields[draw.randrange(7)] = f'"{draw.choice(names)}"'
        rows[number] = ",".join(fields)
    for number in range(0, 4000, 97):
        rows.insert(number, f"{row()[:40]}{row()[20:]}")
    new = "".join(rows).encode()

    def bundle_bytes() -> int:
        return len(encode(old, new, align(old, new), DEFAULT_PROFILE, Label()).written.data)

    with_them = bundle_bytes()
    monkeypatch.setattr(engine, "COARSEST", engine.COARSER)
    assert with_them < 0.98 * bundle_bytes()
