"""Writers killed, bits flipped and files cut at random: what the store of an index loses."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measuring import Table
from tests.index.faults import damage_files, kill_writers
from tests.index.store_workload import StoreWorkload

FOLDERS, KILLS, INJURIES = 4, 60, 300
"""Folders; kills of the writers of each; injuries to copies of each."""


def run() -> list[Table]:
    killed = Table(
        "Writers killed at random calls, inside SQLite's commits and at random times",
        (
            "kills",
            "commits acknowledged",
            "entries in the end",
            "entries lost or wrong",
            "damage found afterwards",
            "commits made but not acknowledged",
        ),
    )
    injured = Table(
        "One bit flipped, or one file cut short",
        (
            "flips",
            "cuts",
            "reading refused, file named",
            "reading gave what was written",
            "reading gave anything else",
            "not named by verify",
        ),
    )
    workload = "tests.index.store_workload:StoreWorkload"
    for seed in range(FOLDERS):
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder, "store")
            kills = kill_writers(workload, store, KILLS, 100 + seed)
            damages = damage_files(StoreWorkload(), store, Path(folder), INJURIES, 100 + seed)
        counts = (kills.kills, kills.acknowledged, kills.entries, kills.lost, kills.damaged)
        killed.rows.append([f"{count:,}" for count in (*counts, kills.unacknowledged)])
        counts = (damages.flips, damages.truncations, damages.refused, damages.harmless)
        injured.rows.append([f"{count:,}" for count in (*counts, damages.wrong, damages.unnoticed)])
    for table in (killed, injured):
        columns = zip(*table.rows, strict=True)
        sums = [sum(int(cell.replace(",", "")) for cell in column) for column in columns]
        table.rows.append([f"**{total:,}**" for total in sums])
    killed.notes.append(
        "After each kill the folder is read in full, compared with what was acknowledged, "
        "verified, and written on by the next writer."
    )
    injured.notes.append(
        "Reading gives what was written where the bit lies in bytes that hold no data: "
        "`catalogue.crc`, or data that reading all entries does not use."
    )
    return [killed, injured]
