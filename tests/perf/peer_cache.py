"""Remembers what peers made of a pair, by images, peer, version and settings, so that our side can be measured again soon."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PeerCache:
    """A JSON file of results; without a file it remembers nothing."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file and file.exists() else {}

    def result(
        self,
        old: bytes,
        new: bytes,
        peer: tuple[str, str, str],
        limit_s: float,
        make: Callable[[], dict[str, Any]] | None,
    ) -> dict[str, Any]:
        """Return what is remembered, or make it; what ran out of time is made again under a higher limit.

        Args:
            old: The old image.
            new: The new image.
            peer: Name, version and settings.
            limit_s: Seconds that it may take now.
            make: Makes the result; None where only what is remembered counts.
        """
        key = " ".join((hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest(), *peer))
        known = self._results.get(key)
        if known is not None and (make is None or known["state"] != "timeout" or known["limit_s"] >= limit_s):
            return {**known, "cached": True}
        if make is None:
            return {"state": "skipped", "message": "not in the cache"}
        result = make()
        with self._lock:
            self._results[key] = result
            if self._file is not None:
                draft = self._file.with_name(self._file.name + ".new")
                draft.write_text(json.dumps(self._results, indent=1, sort_keys=True))
                draft.replace(self._file)
        return result
