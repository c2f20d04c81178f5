"""Says what the comparison means: per pair one line, per class the geometric mean and the worst pair against the goal."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from packager.vehicle.profile import MIB
from tests.perf.makers import OUR_CODERS
from tests.perf.pairs import Pair

SMALL_PATCH_BYTES: Final = 1024
"""Under this, the best peer's patch is so small that hashes decide: bytes are compared, not ratios."""
TIMED: Final = "hdiffpatch-zstd"
COMPRESSED: Final = ("ovmf", "qemu-efi")
"""Images that hold a compressed file system, whose changes no delta sees without unpacking it."""
THUMB: Final = "pybricks"
MOST_S_ABOVE: Final = {"zstd": 0.5}
"""Highest difference of build times for images under 1 MiB, per profile: the peer that time is compared with has zstd, too."""
MOST_TIME_RATIO: Final = {"zstd": 2.0, "zstd-1": 1.0}
"""Highest ratio of build times for images of 1 MiB or more."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair and what everyone made of it.

    Attributes:
        pair: The images.
        new_bytes: Length of the new image.
        ours: Result per profile: "zstd", "adaptive" (zstd and adaptive residuals), "best".
        peers: Result per peer.
    """

    pair: Pair
    new_bytes: int
    ours: dict[str, dict[str, Any]]
    peers: dict[str, dict[str, Any]]

    @property
    def best_peer(self) -> str | None:
        done = {name: peer["bytes"] for name, peer in self.peers.items() if peer["state"] == "done"}
        return min(done, key=lambda name: done[name]) if done else None

    @property
    def best_peer_bytes(self) -> int:
        return int(self.peers[self.best_peer]["bytes"]) if self.best_peer else 0

    def ratio(self, profile: str) -> float | None:
        ours = self.ours.get(profile, {"state": "skipped"})
        return ours["bytes"] / self.best_peer_bytes if self.best_peer and ours["state"] == "done" else None

    def above(self, profile: str) -> int | None:
        ours = self.ours.get(profile, {"state": "skipped"})
        return ours["bytes"] - self.best_peer_bytes if self.best_peer and ours["state"] == "done" else None

    def build_s(self, profile: str) -> tuple[float, float] | None:
        """Return the seconds that we and the peer that time is compared with took."""
        ours, peer = self.ours.get(profile, {"state": "skipped"}), self.peers.get(TIMED, {"state": "skipped"})
        return (ours["wall_s"], peer["wall_s"]) if ours["state"] == peer["state"] == "done" else None


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs whose figures belong together.

    Attributes:
        title: For people.
        holds: Which pairs it holds.
        mean_goals: Highest geometric mean per profile.
        worst_goal: Highest ratio of one pair.
        above_goal_bytes: Most bytes above the best peer; set for pairs whose patch is so small that ratios say nothing.
    """

    title: str
    holds: Callable[[Compared], bool]
    mean_goals: dict[str, float] = field(default_factory=dict)
    worst_goal: float | None = None
    above_goal_bytes: int | None = None


def _is(kind: str, start: str = "") -> Callable[[Compared], bool]:
    return lambda row: (
        row.pair.kind == kind and row.pair.name.startswith(start) and row.best_peer_bytes >= SMALL_PATCH_BYTES
    )


def _is_small(row: Compared) -> bool:
    return row.best_peer is not None and row.best_peer_bytes < SMALL_PATCH_BYTES


def _is_app(row: Compared) -> bool:
    return _is("app")(row) and not row.pair.name.startswith(COMPRESSED)


GROUPS: Final = (
    Group("mcu, best peer 1 KiB or more", _is("mcu"), {"zstd": 0.50, "best": 0.48}, 1.02),
    Group(f"  of these Thumb ({THUMB}*)", _is("mcu", THUMB), {"zstd": 0.42, "best": 0.42}),
    Group("mcu, best peer under 1 KiB", lambda row: row.pair.kind == "mcu" and _is_small(row), {}, None, 250),
    Group("app without compressed payload", _is_app, {"zstd": 0.62, "best": 0.58}, 1.0),
    Group("app with compressed payload", lambda row: row.pair.kind == "app" and row.pair.name.startswith(COMPRESSED)),
    Group("data", _is("data"), {"zstd": 1.10, "best": 1.10}, 1.25),
    Group("sample, best peer 1 KiB or more", _is("sample")),
    Group("sample, best peer under 1 KiB", lambda row: row.pair.kind == "sample" and _is_small(row)),
)


def pair_line(row: Compared) -> str:
    """Return the line of a pair: the best peer, ours against it, and the time."""
    parts = [f"{row.pair.title}: {row.new_bytes} bytes; best peer {row.best_peer} {row.best_peer_bytes}"]
    for profile, ours in row.ours.items():
        ratio, seconds = row.ratio(profile), row.build_s(profile)
        if ours["state"] != "done":
            parts.append(f"{profile} {ours['state']} ({ours.get('message', '')})")
        elif ratio is None:
            parts.append(f"{profile} {ours['bytes']}")
        else:
            time = f", {seconds[0]:.2f} s against {seconds[1]:.2f} s" if seconds else ""
            parts.append(f"{profile} {ours['bytes']} = {ratio:.3f} ({row.above(profile):+d} bytes{time})")
    return "; ".join(parts)


def left_out_lines(row: Compared) -> list[str]:
    """Return who gave no patch of a pair, and why."""
    return [
        f"  left out: {name}, {peer['state']}: {peer.get('message', '')}"
        for name, peer in row.peers.items()
        if peer["state"] != "done"
    ] + [f"  not checked by applying: {name}" for name, peer in row.peers.items() if _is_unchecked(peer)]


def _is_unchecked(result: dict[str, Any]) -> bool:
    return result["state"] == "done" and not result["verified"]


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive values."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def summarise(rows: Sequence[Compared], profiles: Sequence[str]) -> list[dict[str, Any]]:
    """Return per group and profile: pairs, geometric mean, worst pair, bytes above, time, and whether the goals are reached."""
    return [
        _figures(group, profile, held)
        for group in GROUPS
        for profile in profiles
        if (held := [row for row in rows if group.holds(row) and row.ratio(profile) is not None])
    ]


def _figures(group: Group, profile: str, rows: Sequence[Compared]) -> dict[str, Any]:
    ratios = [(row.ratio(profile) or 0.0, row) for row in rows]
    worst, worst_row = max(ratios, key=lambda item: item[0])
    most, most_row = max(((row.above(profile) or 0, row) for row in rows), key=lambda item: item[0])
    mean = geometric_mean(ratio for ratio, _ in ratios)
    is_usual = profile in OUR_CODERS  # sizes have goals at the usual effort
    mean_goal = group.mean_goals.get(profile)
    worst_goal, above_goal = (group.worst_goal, group.above_goal_bytes) if is_usual else (None, None)
    missed = []
    if mean_goal is not None and mean > mean_goal:
        missed.append("mean")
    if worst_goal is not None and worst > worst_goal:
        missed.append("worst pair")
    if above_goal is not None and most > above_goal:
        missed.append("bytes above")
    return {
        "group": group.title,
        "profile": profile,
        "pairs": len(rows),
        "geometric_mean": round(mean, 4),
        "geometric_mean_goal": mean_goal,
        "worst": round(worst, 4),
        "worst_goal": worst_goal,
        "worst_pair": worst_row.pair.title,
        "most_bytes_above": most,
        "most_bytes_above_goal": above_goal,
        "most_bytes_above_pair": most_row.pair.title,
        "missed": missed,
        **_time_figures(profile, rows),
    }


def _time_figures(profile: str, rows: Sequence[Compared]) -> dict[str, Any]:
    """Compare build times: seconds for images under 1 MiB, ratios above, and ratios for all."""
    timed = [(row, seconds) for row in rows if (seconds := row.build_s(profile))]
    ratios = [(ours / max(peer, 0.001), row) for row, (ours, peer) in timed]
    small = [(ours - peer, row.pair.title) for row, (ours, peer) in timed if row.new_bytes < MIB]
    large = [(ratio, row.pair.title) for ratio, row in ratios if row.new_bytes >= MIB]
    most_s, most_ratio = (max(found, default=(None, None)) for found in (small, large))
    return {
        "mean_time_ratio": round(geometric_mean(ratio for ratio, _ in ratios), 3) if ratios else None,
        "under_1_mib_most_s_above": None if most_s[0] is None else round(most_s[0], 3),
        "under_1_mib_most_s_above_goal": MOST_S_ABOVE.get(profile),
        "under_1_mib_most_s_above_pair": most_s[1],
        "from_1_mib_mean_time_ratio": round(geometric_mean(ratio for ratio, _ in large), 3) if large else None,
        "from_1_mib_worst_time_ratio": None if most_ratio[0] is None else round(most_ratio[0], 3),
        "from_1_mib_worst_time_ratio_goal": MOST_TIME_RATIO.get(profile),
        "from_1_mib_worst_time_pair": most_ratio[1],
    }


def summary_table(figures: Sequence[dict[str, Any]]) -> str:
    """Return the sizes for people; a goal stands behind its figure."""
    columns = (("bundle / smallest peer patch", -34), ("profile", -10), ("pairs", 5), ("geo. mean", 15), ("worst", 15))
    lines = [_line(*columns, ("bytes above", 12))]
    for row in figures:
        lines.append(
            _line(
                (row["group"], -34),
                (row["profile"], -10),
                (row["pairs"], 5),
                (_with_goal(row["geometric_mean"], row["geometric_mean_goal"]), 15),
                (_with_goal(row["worst"], row["worst_goal"]), 15),
                (_with_goal(row["most_bytes_above"], row["most_bytes_above_goal"]), 12),
                (f" missed: {', '.join(row['missed'])}" if row["missed"] else "", 0),
            )
        )
        lines.append(f"{'':34} worst: {row['worst_pair']}")
    return "\n".join(lines)


def time_table(figures: Sequence[dict[str, Any]]) -> str:
    """Return the build times against those of one peer for people; a goal stands behind its figure."""
    columns = (("mean", 8), ("< 1 MiB: most above", 22), (">= 1 MiB: mean", 15), ("worst", 16))
    lines = [_line((f"wall time / {TIMED}", -34), ("profile", -10), *columns)]
    for row in figures:
        if row["mean_time_ratio"] is None:
            continue
        small, large = row["under_1_mib_most_s_above"], row["from_1_mib_worst_time_ratio"]
        small_goal, large_goal = row["under_1_mib_most_s_above_goal"], row["from_1_mib_worst_time_ratio_goal"]
        lines.append(
            _line(
                (row["group"], -34),
                (row["profile"], -10),
                (f"{row['mean_time_ratio']:.2f} x", 8),
                ("-" if small is None else _timed(f"{small:+.2f}", "s", small_goal), 22),
                ("-" if large is None else f"{row['from_1_mib_mean_time_ratio']:.2f} x", 15),
                ("-" if large is None else _timed(f"{large:.2f}", "x", large_goal), 16),
                (f" missed: {', '.join(missed)}" if (missed := _missed_times(row)) else "", 0),
            )
        )
    return "\n".join(lines)


def _missed_times(row: dict[str, Any]) -> list[str]:
    return [
        row[pair]
        for figure, pair in (
            ("under_1_mib_most_s_above", "under_1_mib_most_s_above_pair"),
            ("from_1_mib_worst_time_ratio", "from_1_mib_worst_time_pair"),
        )
        if row[figure] is not None and row[f"{figure}_goal"] is not None and row[figure] > row[f"{figure}_goal"]
    ]


def _timed(figure: str, unit: str, goal: float | None) -> str:
    return f"{figure} {unit}" if goal is None else f"{figure} {unit} (<={goal:g})"


def _line(*cells: tuple[object, int]) -> str:
    """Return cells side by side: text and width, negative for those that start at the left."""
    return " ".join(f"{text!s:>{width}}" if width >= 0 else f"{text!s:<{-width}}" for text, width in cells).rstrip()


def _with_goal(value: float, goal: float | None) -> str:
    shown = str(value) if isinstance(value, int) else f"{value:.3f}"
    return shown if goal is None else f"{shown} (<={goal:g})"


def peer_table(rows: Sequence[Compared]) -> str:
    """Return how often each peer was the smallest, and how far behind the smallest it was on average."""
    names = [
        name for name in (rows[0].peers if rows else {}) if any(row.peers[name]["state"] == "done" for row in rows)
    ]
    lines = [f"{'peer':20} {'patches':>8} {'smallest':>9} {'patch / smallest':>17}"]
    for name in names:
        done = [row for row in rows if row.peers[name]["state"] == "done"]
        behind = geometric_mean(row.peers[name]["bytes"] / row.best_peer_bytes for row in done)
        wins = sum(row.best_peer == name for row in rows)
        lines.append(f"{name:20} {len(done):8} {wins:9} {behind:17.3f}")
    return "\n".join(lines)
