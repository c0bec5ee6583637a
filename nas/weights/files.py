"""Reading a checkpoint's tensors: torch files, safetensors, our checkpoints and exports. None of it is executed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from nas.errors import WeightsError
from nas.training import checkpoint

GRAPH = "graph.json"
WEIGHTS = "weights.pt"
FACTS = "lightnas-export.json"

# Averaged weights first: where a training kept both, they are its better half. `network` is ours.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "network")
_PREFIXES = ("module.", "_orig_mod.")
_MOST_BYTES = 2 << 30  # of a checkpoint, unpacked: a small file can hold a terabyte of zeros


def weights_file(path: Path) -> Path:
    """The file that holds the tensors: the path, or in an export folder its weights.

    Raises:
        WeightsError: there is none.
    """
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise WeightsError(
                f"{path} is a folder without {WEIGHTS}; name a checkpoint file or an export of nas export"
            )
        return path / WEIGHTS
    if not path.is_file():
        raise WeightsError(f"the checkpoint {path} does not exist; name a torch or safetensors file, or an export")
    return path


def exported_facts(path: Path) -> dict[str, Any] | None:
    """What an export tells of itself (`classes`, `mean`, `std`, …); None for any other checkpoint.

    Raises:
        WeightsError: it cannot be read.
    """
    file = weights_file(path)
    facts = file.with_name(FACTS)
    if file.name != WEIGHTS or not facts.is_file():
        return None
    try:
        told: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        return {**told, **{key: told[key] for key in ("classes", "mean", "std")}}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise WeightsError(f"{facts} is no description of an export ({e!r}); export again") from e


def read_state(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, on the CPU, in the file's order.

    Args:
        path: a `.safetensors` file; a torch file of tensors, plain or under `state_dict`, `model`, `network`,
            `state_dict_ema` or `model_ema`; a checkpoint of our trainings; or a folder `nas export` wrote. A prefix
            `module.` or `_orig_mod.` of all names is taken off.

    Raises:
        WeightsError: it is missing, too large or cannot be read, or holds something else than tensors.
    """
    file = weights_file(path)
    _check_size(file)
    state: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if isinstance(state, dict):
        state = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{file} holds no named tensors; save one with torch.save(model.state_dict(), path)")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise WeightsError(
                f"{file}: {str(name)[:60]!r} is {_kind(value)}, no dense tensor; save the model's state_dict alone"
            )
    return _without_prefixes(state)


def _check_size(file: Path) -> None:
    """Raises WeightsError if a file is too large, packed or, being a zip archive (torch's are), unpacked."""
    try:
        size = file.stat().st_size
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
    except Exception as e:  # as below
        raise WeightsError(f"{file} is no readable checkpoint of tensors ({_first_line(e)}); save it again") from e
    if size > _MOST_BYTES:
        raise WeightsError(
            f"{file} unpacks to {size / 2**30:.1f} GiB, more than {_MOST_BYTES >> 30} GiB; "
            "save the network's state_dict alone"
        )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file, device="cpu")
    except Exception as e:  # a crafted header fails in any way
        raise WeightsError(f"{file} is no readable safetensors file: {_first_line(e)}") from e


def _read_torch(file: Path) -> Any:
    try:
        own = checkpoint.load(file)
        return torch.load(file, map_location="cpu", weights_only=True) if own is None else own
    except Exception as e:  # a damaged or foreign pickle fails in any way
        raise WeightsError(
            f"{file} is no readable checkpoint of tensors; save one with torch.save(model.state_dict(), path) "
            f"({_first_line(e)})"
        ) from e


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _kind(value: object) -> str:
    return f"a {value.layout} tensor" if isinstance(value, Tensor) else f"of type {type(value).__name__}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
