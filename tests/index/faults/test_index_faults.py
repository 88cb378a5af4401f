import pytest

from tests.exploration import seeds
from tests.index.faults import tracing
from tests.index.faults.damages import damage_files
from tests.index.faults.full_disks import fail_calls
from tests.index.faults.index_workload import IndexWorkload
from tests.index.faults.killing import kill_writers
from tests.index.faults.power_losses import lose_power
from tests.index.faults.unlocked import write_at_once

WORKLOAD = "tests.index.faults.index_workload:IndexWorkload"
needs_traces = pytest.mark.skipif(
    tracing.missing() is not None, reason=f"system calls can't be traced: {tracing.missing()}"
)


def check(tmp_path, kills, injuries, seed):
    folder = tmp_path / "index"
    killed = kill_writers(WORKLOAD, folder, kills, seed)
    assert killed.examples == []
    assert (killed.trials, killed.faults) == (kills, 0)
    damaged = damage_files(IndexWorkload(), folder, tmp_path, injuries, seed)
    assert damaged.examples == []
    assert damaged.faults == 0


@pytest.mark.parametrize("seed", seeds(1))
def test_an_index_survives_kills_and_names_damage(tmp_path, seed):
    check(tmp_path, kills=3, injuries=25, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_an_index_survives_many_kills_and_injuries(tmp_path, seed):
    check(tmp_path, kills=15, injuries=100, seed=seed)


@needs_traces
@pytest.mark.parametrize("seed", seeds(1))
def test_an_index_loses_nothing_when_the_power_goes(tmp_path, seed):
    found = lose_power(WORKLOAD, tmp_path, trials=20, seed=seed, operations=6)
    assert found.examples == []
    assert (found.trials, found.faults) == (20, 0)


@needs_traces
def test_an_index_on_a_failing_disk_says_what_is_so(tmp_path):
    found = fail_calls(WORKLOAD, tmp_path, operations=8, kind="syncing", every=5, error="EIO")
    assert found.examples == []
    assert found.trials > 5


@pytest.mark.parametrize("seed", seeds(1))
def test_two_writers_of_an_index_without_locks_lose_nothing(tmp_path, seed):
    found = write_at_once(WORKLOAD, tmp_path, rounds=8, seed=seed)
    assert found.examples == []
