"""What torch has stored is read without unpickling, and takes no more memory than the file."""

import pickle
import warnings
import zipfile

import pytest

torch = pytest.importorskip("torch")

from hiersearch.partitions.torch_files import torch_content  # noqa: E402


def rewritten(file, into, change, compressed=False):
    """Copy an archive with the bytes of its records changed."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(into, "w", kind) as other:
        for name in archive.namelist():
            other.writestr(name, change(name, archive.read(name)))


def refused(file, *parts):
    with pytest.raises(ValueError) as error:
        torch_content(file)
    message = str(error.value)
    for part in parts:
        assert part in message
    # Torch's own words advise to switch off what protects the reader.
    shown = [message]
    cause = error.value.__cause__ or (
        None if error.value.__suppress_context__ else error.value.__context__
    )
    while cause is not None:
        shown.append(str(cause))
        cause = cause.__cause__
    assert "weights_only" not in " ".join(shown)


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_content_comes_back(tmp_path, zipped):
    content = {
        "a": torch.arange(6).reshape(2, 3),
        "b": [1, "x", None, {"c": torch.zeros(0), "d": torch.ones(4, dtype=torch.bfloat16)}],
        "e": torch.nn.Parameter(torch.ones(2)),
    }
    content["view"] = content["a"].T
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = torch_content(tmp_path / "a.pt")
    assert torch.equal(found["view"], content["a"].T)
    assert found["b"][:3] == [1, "x", None]
    assert torch.equal(found["b"][3]["d"], content["b"][3]["d"])


def test_what_would_have_to_be_unpickled_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(range(3), protocol=4))
    (tmp_path / "noise.pt").write_bytes(b"nothing of the kind")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    for name in ("module", "pickle", "noise", "empty", "script"):
        refused(tmp_path / f"{name}.pt")
    with pytest.raises(FileNotFoundError):
        torch_content(tmp_path / "none.pt")


def test_a_tensor_that_is_larger_than_its_numbers_is_refused(tmp_path):
    huge = torch.zeros(1).expand(10**6, 10**6)
    for content in (huge, {"a": [huge]}, {"deep": {"er": (1, huge)}}):
        torch.save(content, tmp_path / "a.pt")
        refused(tmp_path / "a.pt", "shape (1000000, 1000000)", "only 4 bytes")


def test_numbers_that_are_not_in_the_file_are_refused(tmp_path):
    torch.save({"a": torch.arange(4.0)}, tmp_path / "a.pt")
    four, many = b"K\x04", b"J" + (10**8).to_bytes(4, "little")

    def claiming(name, content):
        return content.replace(four, many) if name.endswith("data.pkl") else content

    def unpacking(name, content):
        return bytes(10**6) if name.endswith("data/0") else content

    rewritten(tmp_path / "a.pt", tmp_path / "claim.pt", claiming)
    refused(tmp_path / "claim.pt", "damaged")
    rewritten(tmp_path / "a.pt", tmp_path / "bomb.pt", unpacking, compressed=True)
    refused(tmp_path / "bomb.pt", "unpack to more than the file holds")
    torch.save(torch.arange(4.0), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    (tmp_path / "old.pt").write_bytes(old.replace(four, many))
    refused(tmp_path / "old.pt", "damaged")


def test_tensors_that_are_not_dense_numbers_are_refused(tmp_path):
    for tensor in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
        torch.save({"a": tensor}, tmp_path / "a.pt")
        refused(tmp_path / "a.pt")


def test_deep_and_circular_containers_end(tmp_path):
    deep = circular = [torch.ones(2)]
    for _ in range(200):
        deep = [deep]
    circular.append(circular)
    torch.save({"deep": deep, "circular": circular}, tmp_path / "a.pt")
    assert torch.equal(torch_content(tmp_path / "a.pt")["circular"][0], torch.ones(2))


def test_a_file_cut_or_altered_anywhere_is_read_or_refused(tmp_path):
    torch.save({"a": torch.arange(4.0), "b": [1.5, "text"]}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    spoiled = tmp_path / "b.pt"
    read = 0
    for place in range(0, len(whole), 7):
        for content in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :],
        ):
            spoiled.write_bytes(content)
            try:
                torch_content(spoiled)
                read += 1
            except ValueError:
                pass
    assert read < len(whole) / 7
