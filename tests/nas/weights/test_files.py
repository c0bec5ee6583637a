from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.errors import WeightsError
from nas.training import checkpoint
from nas.weights.files import read_state

STATE = {"stem.weight": torch.arange(6.0).reshape(2, 3), "stem.bias": torch.ones(2)}


def _equal(a: dict[str, Tensor], b: dict[str, Tensor] = STATE) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network", "state_dict_ema", "model_ema"])
def test_torch_files_are_read_plain_and_wrapped(tmp_path: Path, wrapper: str | None) -> None:
    path = tmp_path / "some.pth"
    torch.save(STATE if wrapper is None else {"epoch": 3, wrapper: OrderedDict(STATE)}, path)
    assert _equal(read_state(path))


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": STATE}, path)
    assert _equal(read_state(path))


def test_safetensors_our_checkpoints_and_exports_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "some.safetensors")
    loaded = read_state(tmp_path / "some.safetensors")
    assert _equal(dict(sorted(loaded.items(), reverse=True)))
    checkpoint.save(tmp_path / "checkpoint.pt", {"identity": "x", "history": [], "network": STATE})
    assert _equal(read_state(tmp_path / "checkpoint.pt"))
    export = tmp_path / "export"
    export.mkdir()
    torch.save(STATE, export / "weights.pt")
    assert _equal(read_state(export))
    assert _equal(read_state(export / "weights.pt"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "some.pth"
    torch.save({prefix + name: value for name, value in STATE.items()}, path)
    assert _equal(read_state(path))


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(state, path)
    assert _equal(read_state(path), state)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("ours", [False, True])
def test_nothing_in_a_file_is_executed(tmp_path: Path, ours: bool) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"network": {"a": Bomb(mark)}}
    if ours:
        checkpoint.save(path, content)
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=r"evil.pt is no readable checkpoint of tensors; save one with torch.save"):
        read_state(path)
    assert not mark.exists()
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(WeightsError, match="no readable checkpoint"):
        read_state(path)
    assert not mark.exists()


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent.pt does not exist"):
        read_state(tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match=r"is a folder without weights.pt"):
        read_state(tmp_path)
    path = tmp_path / "some.pth"
    for damaged in (b"", b"text", b"\x80\x02"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"some.pth is no readable checkpoint"):
            read_state(path)
        assert "\n" not in _message(path)
    (tmp_path / "some.safetensors").write_bytes(b"text")
    with pytest.raises(WeightsError, match=r"some.safetensors is no readable safetensors file"):
        read_state(tmp_path / "some.safetensors")
    checkpoint.save(path, {"network": STATE})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match="no readable checkpoint"):
        read_state(path)


def _message(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    return str(caught.value)


def test_a_module_and_other_content_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    torch.save(nn.Linear(2, 2), path)
    assert "state_dict" in _message(path)
    for content in ({}, {"model": {}}, [torch.zeros(1)], torch.zeros(1)):
        torch.save(content, path)
        assert "holds no named tensors" in _message(path)
    torch.save({"a": torch.zeros(1), "epoch": 3}, path)
    assert "'epoch' is of type int, no dense tensor" in _message(path)
    torch.save({"a": torch.zeros(3).to_sparse()}, path)
    assert "'a' is a torch.sparse_coo tensor" in _message(path)


@pytest.mark.parametrize("packed", [False, True])
def test_what_unpacks_to_too_much_is_not_read(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.pth"
    torch.save({"a": torch.zeros(1 << 19)}, path)
    if packed:
        with zipfile.ZipFile(path) as whole:
            members = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        assert path.stat().st_size < 1 << 16
    assert read_state(path).keys() == {"a"}
    monkeypatch.setattr("nas.weights.files._MOST_BYTES", 1 << 20)
    monkeypatch.setattr(torch, "load", None)
    assert "some.pth unpacks to 0.0 GiB, more than 0 GiB; save the network's state_dict alone" in _message(path)


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    for name in ("some.pth", "some.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 40)
        assert "unpacks to 1024.0 GiB, more than 2 GiB" in _message(tmp_path / name)


def test_any_number_of_prefixes_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    torch.save({"module." * 2000 + "a": torch.zeros(1)}, path)
    assert list(read_state(path)) == ["a"]


@pytest.mark.parametrize("header", [b"{", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [-1]}}'])
def test_a_crafted_safetensors_header_is_told_in_one_line(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "is no readable safetensors file" in _message(path)
    assert "\n" not in _message(path)
