"""The key policy: what is accepted, what is refused, and that everything wrong is told at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from packager.config.policy import MAX_EXPIRES_DAYS, read_policy
from packager.model.errors import ConfigError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.supplychain.steps import check_steps

SAMPLE = Path(__file__).parents[2] / "keys" / "policy.toml"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., KeyPolicy]:
    """Reads the sample policy after replacing pieces of its text."""

    def _read(*changes: tuple[str, str]) -> KeyPolicy:
        text = SAMPLE.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return read_policy(path)

    return _read


def problems_of(read: Callable[..., KeyPolicy], *changes: tuple[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(*changes)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_sample_policy_says_what_the_readme_says() -> None:
    policy = read_policy(SAMPLE)
    assert policy.demo
    assert policy.root == RolePolicy(("root-1", "root-2", "root-3"), 2, 365)
    assert policy.targets.threshold == 2
    assert len(policy.targets.keys) == 3
    assert set(policy.domains) == {"powertrain", "chassis-safety", "body", "infotainment", "telematics"}
    assert list(policy.steps) == ["collect", "diff", "bundle", "self-check", "publish"]
    assert policy.steps["diff"] == RolePolicy(("diff",), 1, policy.layout.expires_days)


def test_lists_all_problems_at_once(read: Callable[..., KeyPolicy]) -> None:
    problems = problems_of(
        read,
        ("demo = true", "demo = 1"),
        ("[root]", "[root]\ncolour = 3"),
        ('["timestamp"]', '["../timestamp"]'),
        ("[layout]", "[layuot]"),
    )
    assert len(problems) == 5
    text = "\n".join(problems)
    for part in (
        "demo: found 1",
        "root: colour is unknown",
        "timestamp: keys: found",
        "layout is missing",
        "layuot is unknown",
    ):
        assert part in text


@pytest.mark.parametrize(("threshold", "accepted"), [(0, False), (1, True), (3, True), (4, False)])
def test_threshold_is_one_to_number_of_keys(read: Callable[..., KeyPolicy], threshold: int, accepted: bool) -> None:
    change = ("threshold = 2", f"threshold = {threshold}")
    if accepted:
        assert read(change).root.threshold == threshold
    else:
        assert [problem for problem in problems_of(read, change) if problem.startswith("root: threshold")]


@pytest.mark.parametrize(
    ("days", "accepted"), [(0, False), (1, True), (MAX_EXPIRES_DAYS, True), (MAX_EXPIRES_DAYS + 1, False)]
)
def test_expiry_is_bounded(read: Callable[..., KeyPolicy], days: int, accepted: bool) -> None:
    change = ("expires_days = 365", f"expires_days = {days}")
    if accepted:
        assert read(change).root.expires_days == days
    else:
        assert problems_of(read, change)[0].startswith("root: expires_days")


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "layout", "domains", "steps"])
def test_every_role_is_required(tmp_path: Path, role: str) -> None:
    lines = SAMPLE.read_text().splitlines()
    kept, skipping = [], False
    for line in lines:
        if line.startswith("["):
            skipping = line.strip("[]").split(".")[0] == role
        if not skipping:
            kept.append(line)
    path = tmp_path / "policy.toml"
    path.write_text("\n".join(kept))
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert caught.value.problems[0].startswith(f"{role} is missing")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('["snapshot"]', '["root-1"]'), "root and in snapshot or timestamp"),
        (('["timestamp"]', '["targets-3"]'), "targets and in snapshot or timestamp"),
        (('["layout-owner"]', '["targets-1"]'), "targets and in layout"),
        (('["collect"]', '["layout-owner"]'), "layout and in steps"),
        (('["body"]', '["root-2"]'), "root and in domains"),
        (('["publish"]', '["powertrain"]'), "domains and in steps"),
    ],
)
def test_a_key_serves_one_purpose(read: Callable[..., KeyPolicy], change: tuple[str, str], expected: str) -> None:
    (problem,) = problems_of(read, change)
    assert expected in problem


def test_domains_of_one_supplier_may_share_a_key(read: Callable[..., KeyPolicy]) -> None:
    assert read(('["body"]', '["powertrain"]'), ('["snapshot"]', '["timestamp"]')).domains["body"].keys == (
        "powertrain",
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[domains.body]", "[domains.targets]"), "name of a top-level role"),
        (("[domains.body]", '[domains."a/b"]'), "expected a name"),
        (('["root-1", "root-2", "root-3"]', '["root-1", "root-1", "root-3"]'), "expected different names"),
        (('["snapshot"]', "[]"), "at least one name"),
        (("[steps.diff]", "[steps.diff]\nexpires_days = 3"), "expires_days is unknown"),
    ],
)
def test_refuses(read: Callable[..., KeyPolicy], change: tuple[str, str], expected: str) -> None:
    assert expected in "\n".join(problems_of(read, change))


def test_missing_file_and_bad_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_policy(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    for content in (b"demo = ", b"\xff\xfe", b"#" * ((1 << 20) + 1)):
        bad.write_bytes(content)
        with pytest.raises(ConfigError, match="expected"):
            read_policy(bad)


def test_schemes_are_known_and_of_keys_that_a_role_lists(read: Callable[..., KeyPolicy]) -> None:
    assert read_policy(SAMPLE).schemes == {}
    table = '\n[schemes]\nroot-3 = "ml-dsa-65"\n'
    assert read(("[root]", f"{table}[root]")).schemes == {"root-3": "ml-dsa-65"}
    wrong = '\n[schemes]\nroot-9 = "ed25519"\nroot-1 = "rsa-pkcs1v15-sha256"\nroot-2 = 3\n[root]'
    text = "\n".join(problems_of(read, ("[root]", wrong)))
    assert "schemes.root-9: found a key that no role lists" in text
    assert "schemes.root-1: found 'rsa-pkcs1v15-sha256', expected one of ed25519" in text
    assert "root-2: found 3, expected a string" in text


def test_a_step_of_the_companys_own_may_be_held_to_its_hardware(read: Callable[..., KeyPolicy]) -> None:
    own = '[steps.compile]\nkeys = ["compiler"]\nthreshold = 1\n'
    assert read(("[steps.collect]", f"{own}[steps.collect]")).step_hardware == {}
    policy = read(("[steps.collect]", f'{own}hardware = ["zgw", "bdc"]\n[steps.collect]'))
    assert policy.step_hardware == {"compile": ("zgw", "bdc")}
    assert problems_of(read, ("[steps.collect]", f'{own}hardware = ["z*"]\n[steps.collect]'))
    with pytest.raises(ConfigError) as caught:
        check_steps(read(("[steps.collect]", '[steps.collect]\nhardware = ["zgw"]')))
    assert "steps.collect.hardware: found some, expected none" in caught.value.problems[0]
