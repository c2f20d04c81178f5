"""The walkthrough in docs/ceremony.md, its commands run as they stand: four parties with keys of their own, and a car that follows."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sample_images.car import make_car
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry
from tests.integration.test_vehicle_update import served
from tests.loopback import PATIENCE_S

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs/ceremony.md").read_text()
PARTIES = ("office", "alice", "bob", "carol")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with images, a release to build, a car, and the same policy for every party."""
    policy = (PROJECT / "keys/policy.toml").read_text().replace("demo = true", "demo = false")
    assert "demo = false" in policy
    for who in PARTIES:
        (tmp_path / who / "keys/public").mkdir(parents=True)
        (tmp_path / who / "keys/policy.toml").write_text(policy)
    (tmp_path / "stick").mkdir()
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
    obtain(wanted, tmp_path / "images", Registry(tmp_path / "cache", None), lambda _: None)
    shutil.copy(PROJECT / "sample_images/small.toml", tmp_path)
    make_car(tmp_path / "small.toml", 1, tmp_path / "car", "WBA00000000000001")
    (tmp_path / "passphrase").write_text("of a test, and long enough\n")
    return tmp_path


def walk(place: Path, script: str, url: str) -> tuple[int, str]:
    """Run a script at a terminal where somebody confirms everything; returns the exit code and what was shown."""
    here, there = pty.openpty()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PACKAGER_PASSPHRASE_FILE": str(place / "passphrase"),
        "URL": url,
        "NO_COLOR": "1",
    }
    shown: list[bytes] = []

    def listen() -> None:
        answered = 0
        with contextlib.suppress(OSError):  # the terminal is gone with the last process
            while data := os.read(here, 65536):
                shown.append(data)
                asked = b"".join(shown).count(b"? [y/N]")  # a question may come in two parts
                if asked > answered:
                    answered += 1
                    os.write(here, b"y\n")

    listener = threading.Thread(target=listen)
    with subprocess.Popen(
        ["bash", "-e", "-c", script], cwd=place, env=environment, stdin=there, stdout=there, stderr=there
    ) as process:
        os.close(there)
        listener.start()
        code = process.wait(timeout=900)
    listener.join(PATIENCE_S)
    os.close(here)
    return code, b"".join(shown).decode()


@pytest.mark.long
def test_the_walkthrough(place: Path) -> None:
    """Fifty processes: a minute of one core."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 9
    # `! command` does not end a shell that runs with -e; here it must.
    script = "\n".join(
        re.sub(r"^! (.*?)( +#.*)?$", r"if \1; then exit 99; fi", block, flags=re.MULTILINE) for block in blocks
    )
    (place / "site/repo").mkdir(parents=True)
    with served(place / "site/repo") as url:
        code, shown = walk(place, script, url)
    assert code == 0, shown[-3000:]
    assert "role root: REMOVED root-2" in shown
    assert "role root: ADDED root-4" in shown
    assert "EXPIRED" in shown
    assert shown.count("Sign as") == len(re.findall(r"^packager repo sign", TEXT, re.MULTILINE))
    held = {who: {path.stem for path in (place / who / "keys/private").iterdir()} for who in PARTIES}
    assert held["alice"] == {"root-1", "targets-1"}
    assert not any(name.startswith(("root", "targets")) for name in held["office"])
    root = json.loads((place / "car/metadata/root.json").read_bytes())["signed"]
    assert root["version"] == 3
    for folder, ecu in (("small-engine", "DME"), ("small-gateway", "ZGW"), ("small-airbag", "ACSM")):
        new = (place / "images" / folder / "1.2.0.bin").read_bytes()
        assert any(slot.read_bytes() == new for slot in (place / "car/slots" / ecu).iterdir())
