"""Writers killed, bits flipped and files cut at random: what the store of an index loses."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measuring import Table
from tests.index.faults import damage_files, kill_writers, resolved

FOLDERS = {
    "tests.index.store_workload:StoreWorkload": (4, 55, 275),
    "tests.index.index_workload:IndexWorkload": (2, 20, 150),
}
"""For a store of arrays and an index of label maps: folders; kills of the writers of each;
injuries to copies of each."""


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
    for workload, (folders, n_kills, n_injuries) in FOLDERS.items():
        for seed in range(100, 100 + folders):
            with tempfile.TemporaryDirectory() as folder:
                store = Path(folder, "store")
                kills = kill_writers(workload, store, n_kills, seed)
                damages = damage_files(resolved(workload), store, Path(folder), n_injuries, seed)
            counts = (kills.kills, kills.acknowledged, kills.entries, kills.lost, kills.damaged)
            killed.rows.append([f"{count:,}" for count in (*counts, kills.unacknowledged)])
            counts = (damages.flips, damages.truncations, damages.refused, damages.harmless)
            counts = (*counts, damages.wrong, damages.unnoticed)
            injured.rows.append([f"{count:,}" for count in counts])
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
