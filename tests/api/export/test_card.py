from __future__ import annotations

from typing import Any

import pytest

from api.export.card import model_card

FILES = {"network.ncnn.bin": "ab" * 32, "network.onnx": "cd" * 32, "run.py": "ef" * 32, "examples/cat-3.png": "01" * 32}


@pytest.fixture
def written(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as the bundle completes them."""
    sizes = dict.fromkeys(FILES, 1_500_000)
    return {
        **facts, "files": FILES, "bytes": sizes, "differences": {"ncnn": 1e-6}, "checked_pictures": 32,
        "tolerance": 1e-3, "lightnas": "1.2.3",
    }  # fmt: skip


def test_it_tells_what_a_stranger_asks(written: dict[str, Any]) -> None:
    card = model_card(written)
    assert card.startswith("---\nlicense: MIT\n")
    for text in (
        "![The network: its blocks, and where its work and time go](network.svg)",
        "| test accuracy | 50.00 % |",
        "| `grün` | 50.00 % |",
        "| size of `network.ncnn.bin` | 1.5 MB |",
        "| `run.py` | classifies pictures in Python with ncnn or onnxruntime | `" + "ef" * 32,
        "python3 run.py examples/cat-3.png --repeat 100",
        "cmake -S cpp -B build",
        "latency_ms <= 2",
        "lightnas 1.2.3",
        "| seed | 7 |",
        written["data_digest"],
    ):
        assert text in card


def test_what_is_not_known_is_told_so(written: dict[str, Any]) -> None:
    del written["bytes"], written["predicted_ms"], written["measured_ms"], written["measured_p95_ms"]
    card = model_card(written)
    for text in (
        "| latency, predicted | not predicted |",
        "| latency, measured (median of whole runs) | not measured |",
        "| size of `network.onnx` | not measured |",
        "| most activations alive at once (fp32, batch 1) | not measured |",
        "No board: the search had no latency budget.",
    ):
        assert text in card
    assert "taskset" not in card
    assert "None" not in card


@pytest.mark.parametrize(("measured_ms", "verdict"), [(2.05, "inside"), (2.5, "OUTSIDE"), (1.7, "OUTSIDE")])
def test_the_measured_latency_stands_beside_its_interval(
    written: dict[str, Any], measured_ms: float, verdict: str
) -> None:
    card = model_card({
        **written, "predicted_ms": 2.0, "predicted_low_ms": 1.9, "predicted_high_ms": 2.2, "measured_ms": measured_ms,
        "measured_p95_ms": 2.75, "peak_memory_mb": 0.25, "threads": 2, "dtype": "fp16",
        "board": {"board": "pi4", "cores": [2, 3], "table": "f00d"},
    })  # fmt: skip
    for text in (
        "| latency, predicted | 2 ms (90 % interval 1.9 to 2.2 ms) |",
        f"| latency, measured (median of whole runs) | {measured_ms:g} ms ({verdict} the interval) |",
        "| latency, measured (p95) | 2.75 ms |",
        "| most activations alive at once (fp32, batch 1) | 0.25 MB |",
        "| table | f00d |",
        "taskset -c 2,3 python3 run.py",
        "2 thread(s) in fp16, as the latency above",
    ):
        assert text in card


def test_a_bar_in_a_name_breaks_no_table(written: dict[str, Any]) -> None:
    assert "| `a\\|b` | 50.00 % |" in model_card({**written, "recall": {"a|b": 0.5}})


def test_it_tells_the_final_it_won_and_the_recipe(written: dict[str, Any]) -> None:
    judged = {"mean": 2.25, "sd": 0.5, "half_width": 0.75, "margins": [1.75, 2.75], "verdict": "wins"}
    own = {"label": "trial 3", "role": "winner", "measured_ms": 1.5, "predicted_ms": 1.4, "flops": 4_000_000}
    own |= {"test_accuracy": 0.9, "seeds": [1, 2], "winner_is_better_by": None}
    other = {**own, "label": "MobileNetV2 x0.25", "role": "baseline", "measured_ms": None, "test_accuracy": 0.8775}
    other |= {"winner_is_better_by": judged}
    final = {"networks": [own, {**own, "role": "finalist", "label": "trial 9"}, other], "comparison": judged}
    card = model_card({**written, "final": final, "recipe": {"lr": 0.2, "augment": "rand"}})
    assert "| **this network** | 1.5 ms | 4,000,000 | 90.00 % (2 seed(s)) |" in card
    assert "| MobileNetV2 x0.25 | 1.4 ms | 4,000,000 | 87.75 % (2 seed(s)) | +2.25 ± 0.75 points |" in card
    assert "trial 9" not in card
    assert "| recipe | lr 0.2, augment rand |" in card
    assert "obvious choices" not in model_card({**written, "final": None})
