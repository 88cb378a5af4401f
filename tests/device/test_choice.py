import importlib.util
import subprocess
import sys

import pytest

from hiersearch.device import choice
from hiersearch.device.choice import Device, DeviceWork, pays, resolved
from hiersearch.errors import MissingExtraError

HUGE = DeviceWork(cpu_seconds=100.0, bytes_sent=1e6, bytes_moved=1e9)
TINY = DeviceWork(cpu_seconds=1e-4, bytes_sent=1e3, bytes_moved=1e4)


def there_are(monkeypatch, count: int) -> None:
    """Let torch find so many GPUs."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_the_cpu_is_what_nothing_else_is_asked_for():
    assert resolved(None) == resolved("cpu") == Device("cpu")
    assert resolved("cpu").on_kernels
    assert not resolved("cpu").is_gpu


def test_a_gpu_is_named_by_its_number(monkeypatch):
    torch = pytest.importorskip("torch")
    there_are(monkeypatch, 2)
    assert resolved("cuda") == Device("cuda:0")
    assert resolved("cuda:1") == Device("cuda:1")
    assert resolved("cuda:1").is_gpu
    assert resolved("cuda:1").torch == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("gpu", 1, "device must be cpu, cuda, cuda:N or auto, got 'gpu'"),
        ("cuda:", 1, "got 'cuda:'"),
        ("cuda:-1", 1, "got 'cuda:-1'"),
        ("cuda:x", 1, "got 'cuda:x'"),
        ("", 1, "got ''"),
        ("cuda", 0, "one that torch finds, which is no GPU, got 'cuda'"),
        ("cuda:5", 2, "among the 2 GPUs from cuda:0, got 'cuda:5'"),
    ],
)
def test_says_what_is_wrong_with_a_device(monkeypatch, device, count, message):
    there_are(monkeypatch, count)
    with pytest.raises(ValueError, match=message):
        resolved(device)


def test_a_device_is_a_string():
    with pytest.raises(TypeError, match="device must be a string"):
        resolved(3)


def test_auto_takes_a_gpu_only_where_it_pays(monkeypatch):
    there_are(monkeypatch, 1)
    assert resolved("auto", HUGE) == Device("cuda:0")
    assert resolved("auto", TINY) == Device("cpu")
    assert resolved("auto") == Device("cpu")
    there_are(monkeypatch, 0)
    assert resolved("auto", HUGE) == Device("cpu")


def test_a_process_that_never_used_the_gpu_pays_for_its_start():
    work = DeviceWork(cpu_seconds=0.5, bytes_sent=0, bytes_moved=0)
    assert pays(work)
    assert not pays(work, started=False)


def test_more_to_send_never_makes_a_gpu_pay():
    assert pays(DeviceWork(0.5, 1e8, 1e8))
    assert not pays(DeviceWork(0.5, 1e10, 1e8))
    assert not pays(DeviceWork(0.5, 1e8, 1e12))


def test_without_torch_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        choice.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    for device in ("cuda", "cpu:torch"):
        with pytest.raises(MissingExtraError, match=r"hiersearch\[torch\]"):
            resolved(device)
    assert resolved("auto", HUGE) == Device("cpu")


def test_the_interpreter_must_have_been_chosen(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        resolved("cpu:triton")


def test_small_work_does_not_import_torch():
    lines = [
        "import sys",
        "from hiersearch.device.choice import DeviceWork, resolved",
        "resolved('auto', DeviceWork(1e-4, 0, 0)), resolved('cpu')",
        "assert 'torch' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
