"""Steps of a company's own: what they may use and make, who signs, and what is left of one that failed."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from packager.model.errors import SupplyChainError
from packager.model.policy import RolePolicy
from packager.supplychain.envelope import MAX_ENVELOPE_BYTES
from packager.supplychain.front import perform, read_front, read_links, require_made, run_command
from packager.supplychain.intoto import link_name
from packager.vehicle.identity import Digest
from tests.supply_chain import KEYS, SIGNERS, make_build, with_front

IMAGE = "images/E0/new/image"
BUILD = with_front(make_build(), "compile", "sign")
COMPILE, SIGN = (link_name(step, KEYS[step].keyid) for step in ("compile", "sign"))


class Machine:
    """Performs steps in a directory, without a command unless a test gives one.

    Attributes:
        policy: Of the release.
        ran: Commands that were run.
        code: What they end with.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.policy = BUILD.policy
        self.ran: list[Sequence[str]] = []
        self.code = 0
        self.source = self.file("source.c", b"int main")
        self.image = self.file("image.bin", b"image")

    def file(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def run(self, command: Sequence[str], _: float | None) -> int:
        self.ran.append(command)
        return self.code

    def perform(
        self,
        step: str = "compile",
        *,
        links: Mapping[str, bytes] | None = None,
        materials: Mapping[str, Path] | None = None,
        products: Mapping[str, Path] | None = None,
        command: Sequence[str] = ("cc", "source.c"),
        signers: Sequence[str] = ("compile", "sign"),
    ) -> dict[str, bytes]:
        return perform(
            step,
            self.policy,
            KEYS,
            {name: SIGNERS[name] for name in signers},
            links or {},
            {"input/source.c": self.source} if materials is None else materials,
            {IMAGE: self.image} if products is None else products,
            command,
            run=self.run,
        )

    def refused(self, wrong: str, *, runs: int = 0, **options: object) -> SupplyChainError:
        with pytest.raises(SupplyChainError, match=wrong) as caught:
            self.perform(**options)  # type: ignore[arg-type]
        assert len(self.ran) == runs, "what is wrong beforehand must not run"
        return caught.value


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_one_step_after_the_other_is_recorded_and_read_again(machine: Machine) -> None:
    links = machine.perform()
    assert list(links) == [COMPILE]
    machine.image.write_bytes(b"image")
    unsigned, signed = machine.image, machine.file("signed.bin", b"signed image")
    links |= machine.perform("sign", links=links, materials={IMAGE: unsigned}, products={IMAGE: signed})
    assert sorted(links) == sorted([COMPILE, SIGN])
    front = read_front(machine.policy, KEYS, links, ["compile", "sign"])
    assert list(front) == ["compile", "sign"]
    assert front["compile"].products == {IMAGE: Digest.of(b"image")}
    assert require_made({IMAGE: Digest.of(b"signed image")}, front) == {"sign": {IMAGE: Digest.of(b"signed image")}}
    with pytest.raises(SupplyChainError, match=r"found sha256:.* by the link of step 'sign'"):
        require_made({IMAGE: Digest.of(b"image")}, front)
    assert machine.ran == [("cc", "source.c")] * 2


def test_nothing_of_no_step_is_made_by_none() -> None:
    assert require_made({}, {}) == {}
    with pytest.raises(SupplyChainError, match="is no product of any step: no link is there") as caught:
        require_made({IMAGE: Digest.of(b"")}, {})
    assert "--links" in caught.value.hint


# What is asked for


@pytest.mark.parametrize(("step", "hint"), [("diff", "performs its own steps"), ("paint", r"add [steps.paint]")])
def test_only_steps_of_the_companys_own(machine: Machine, step: str, hint: str) -> None:
    error = machine.refused(
        f"step '{step}': found no such step of the policy's own, expected compile or sign", step=step
    )
    assert hint in error.hint


def test_a_policy_without_own_steps_says_so(machine: Machine) -> None:
    machine.policy = make_build().policy
    machine.refused("found no such step of the policy's own, expected it in the policy")


def test_the_command_is_the_policys_if_it_says_one(machine: Machine) -> None:
    machine.refused("found command '', expected 'one'", command=())
    machine.policy = replace(machine.policy, commands={"compile": ("make", "all")})
    for command in ("make",), ("make all",), ("make", "all", "x"), ():
        machine.refused(f"found command '{' '.join(command)}', expected 'make all'", command=command)
    assert machine.perform(command=["make", "all"])


def test_a_step_needs_a_key_of_its_own(machine: Machine) -> None:
    machine.refused("step 'compile': found none of its keys, expected one of compile", signers=("sign",))


def test_all_keys_at_hand_sign(machine: Machine) -> None:
    steps = {**machine.policy.steps, "compile": RolePolicy(("compile", "sign"), 2, 90)}
    machine.policy = replace(machine.policy, steps=steps)
    one = machine.perform(signers=("sign",))
    assert list(one) == [link_name("compile", KEYS["sign"].keyid)]
    with pytest.raises(SupplyChainError, match="step 'compile': found 1 links, expected 2"):
        read_front(machine.policy, KEYS, one, ["compile"])
    assert list(read_front(machine.policy, KEYS, machine.perform(), ["compile"])) == ["compile"]


def test_a_link_that_is_there_is_not_overwritten(machine: Machine) -> None:
    links = machine.perform()
    error = machine.refused(f"step 'compile': found its link {COMPILE}", runs=1, links=links)
    assert "remove the link" in error.hint


def test_links_of_later_steps_are_not_asked(machine: Machine) -> None:
    assert machine.perform(links={SIGN: b"rubbish"})


# What is used and made


def test_outside_material_needs_no_maker_and_anything_else_does(machine: Machine) -> None:
    machine.refused("work/objects: is no product of any step", materials={"work/objects": machine.source})
    links = machine.perform(products={"work/objects": machine.image})
    assert machine.perform("sign", links=links, materials={"work/objects": machine.image})


@pytest.mark.parametrize(
    ("materials", "products", "wrong"),
    [
        (["targets/E0/1/image"], [IMAGE], "begins with input/, work/, images/"),
        (["input/a"], ["input/a"], "begins with work/, images/"),
        (["input/a"], ["release.toml"], "begins with work/, images/"),
        (["input/../a"], [IMAGE], "expected a relative name"),
        (["input/a"], ["images/E0/image"], "expected a relative name"),
    ],
)
def test_names_say_what_something_is(machine: Machine, materials: list[str], products: list[str], wrong: str) -> None:
    runs = int(materials == ["input/a"])  # products are looked at afterwards
    places = dict.fromkeys(materials, machine.source)
    machine.refused(wrong, runs=runs, materials=places, products=dict.fromkeys(products, machine.image))


def test_a_directory_is_all_files_below_it(machine: Machine) -> None:
    machine.file("tree/b/c.txt", b"c")
    machine.file("tree/a.txt", b"a")
    (machine.root / "tree/empty").mkdir()
    links = machine.perform(materials={"input/tree": machine.root / "tree"})
    link = read_front(machine.policy, KEYS, links, ["compile"])["compile"]
    assert link.materials == {"input/tree/a.txt": Digest.of(b"a"), "input/tree/b/c.txt": Digest.of(b"c")}


def test_one_name_for_two_files(machine: Machine) -> None:
    machine.file("tree/a.txt", b"a")
    places = {"input/tree": machine.root / "tree", "input/tree/a.txt": machine.source}
    machine.refused("found artifact 'input/tree/a.txt' twice", materials=places)


def test_what_is_no_plain_file(machine: Machine) -> None:
    machine.refused("nothing: can't be read: No such file", materials={"input/a": machine.root / "nothing"})
    (machine.root / "tree").mkdir()
    for name in ("link", "tree/link"):
        (machine.root / name).symlink_to(machine.source)
    machine.refused("link: is no plain file", materials={"input/a": machine.root / "link"})
    machine.refused("link: is no plain file", materials={"input/a": machine.root / "tree"})
    (machine.root / "directory link").symlink_to(machine.root / "tree")
    machine.refused("link: is no plain file", materials={"input/a": machine.root / "directory link"})


def test_a_step_that_makes_nothing_or_fails_leaves_no_link(machine: Machine) -> None:
    machine.refused("step 'compile': made nothing", runs=1, products={})
    machine.code = 3
    machine.refused("command 'cc' ended with exit code 3, expected 0; no link was signed", runs=2)


# Links on disk


def test_links_of_a_directory(machine: Machine) -> None:
    assert read_links(None) == {}
    assert read_links(machine.root / "not yet") == {}
    machine.file("a.link", b"a")
    machine.file("b.txt", b"b")
    machine.file("c.link", bytes(MAX_ENVELOPE_BYTES + 9))
    found = read_links(machine.root)
    assert {name: len(data) for name, data in found.items()} == {"a.link": 1, "c.link": MAX_ENVELOPE_BYTES + 1}
    with pytest.raises(SupplyChainError):
        read_front(machine.policy, KEYS, {COMPILE: found["c.link"]}, ["compile"])
    (machine.root / "d.link").mkdir()
    with pytest.raises(SupplyChainError, match="expected links"):
        read_links(machine.root)


# Commands; how one ends whose time is over: attack 52


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        script = "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(7)"
        assert run_command([sys.executable, "-c", script, "$HOME; *"], None, out.fileno()) == 7
    assert (tmp_path / "out").read_text() == "['$HOME; *'] \n"
    with pytest.raises(SupplyChainError, match="command '/no/such': can't be started: No such file"):
        run_command(["/no/such"], None)
