import pytest

from tests.index.faults import damage_files, kill_writers
from tests.index.index_workload import IndexWorkload

WORKLOAD = "tests.index.index_workload:IndexWorkload"


def check(tmp_path, kills, injuries, seed):
    folder = tmp_path / "index"
    killed = kill_writers(WORKLOAD, folder, kills, seed)
    assert (killed.kills, killed.lost, killed.damaged) == (kills, 0, 0)
    damaged = damage_files(IndexWorkload(), folder, tmp_path, injuries, seed)
    assert (damaged.wrong, damaged.unnoticed) == (0, 0)


def test_an_index_survives_kills_and_names_damage(tmp_path):
    check(tmp_path, kills=3, injuries=25, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_an_index_survives_many_kills_and_injuries(tmp_path, seed):
    check(tmp_path, kills=15, injuries=100, seed=seed)
