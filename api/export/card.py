"""The model card: what a stranger needs to trust and use an exported network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "not measured"
_MEGABYTE = 1e6


def points(judged: Mapping[str, Any]) -> str:
    """For people: the mean difference and the half width of its interval, of what `api.finals.report.judge` returns."""
    return f"{judged['mean']:+.2f} ± {judged['half_width']:.2f}"


def model_card(facts: Mapping[str, Any]) -> str:
    """Markdown of an export's facts (the content of `lightnas-export.json`).

    Facts that are not there, or None, are told as not known: an export need not have a board, nor been measured.
    """
    parts = [
        _front(facts),
        f"# {facts['space']} · {facts['encoding']}\n",
        "An image classifier found by lightnas: architecture search under a hardware budget.\n",
        "![The network: its blocks, and where its work and time go](network.svg)\n",
        _result(facts),
        _comparison(facts),
        _hardware(facts),
        _use(facts),
        _architecture(facts),
        _data(facts),
        _files(facts),
        _limits(facts),
    ]
    return "\n".join(part for part in parts if part)


def _front(facts: Mapping[str, Any]) -> str:
    return (
        f"---\nlicense: {facts['license']}\nlibrary_name: lightnas\npipeline_tag: image-classification\n"
        "tags: [image-classification, neural-architecture-search, edge, arm, ncnn, onnx]\n---\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(v).replace("|", "\\|") for v in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g} ms"


def _mb(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g} MB"


def _list(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _predicted(facts: Mapping[str, Any]) -> str:
    low, high = facts.get("predicted_low_ms"), facts.get("predicted_high_ms")
    interval = "" if low is None or high is None else f" (90 % interval {low:.4g} to {high:.4g} ms)"
    predicted = facts.get("predicted_ms")
    return "not predicted" if predicted is None else f"{_ms(predicted)}{interval}"


def _measured(facts: Mapping[str, Any]) -> str:
    measured, low, high = (facts.get(key) for key in ("measured_ms", "predicted_low_ms", "predicted_high_ms"))
    if measured is None or low is None or high is None:
        return _ms(measured)
    return f"{_ms(measured)} ({'inside' if low <= measured <= high else 'OUTSIDE'} the interval)"


def _result(facts: Mapping[str, Any]) -> str:
    sizes = facts.get("bytes", {})
    megabytes = {name: sizes[name] / _MEGABYTE if name in sizes else None for name in _WEIGHTS}
    rows = [
        ("test accuracy", _percent(facts["test_accuracy"])),
        ("validation accuracy after the final training", _percent(facts.get("val_accuracy"))),
        ("validation accuracy in the search", _percent(facts.get("search_accuracy"))),
        ("multiply-accumulates at batch 1", f"{facts['flops']:,}"),
        ("parameters (trainable form)", f"{facts['params']:,}"),
        *((f"size of `{name}`", _mb(size)) for name, size in megabytes.items()),
        ("most activations alive at once (fp32, batch 1)", _mb(facts.get("peak_memory_mb"))),
        ("latency, predicted", _predicted(facts)),
        ("latency, measured (median of whole runs)", _measured(facts)),
        ("latency, measured (p95)", _ms(facts.get("measured_p95_ms"))),
    ]
    recall = [(f"`{name}`", _percent(value)) for name, value in facts["recall"].items()]
    return (
        f"## Results\n\n{_table(('what', 'value'), rows)}\nNothing was chosen by the test pictures.\n\n"
        f"### Recall per class, test pictures\n\n{_table(('class', 'recall'), recall)}"
    )


def _comparison(facts: Mapping[str, Any]) -> str:
    """The final this network has won, if there was one with baselines."""
    final = facts.get("final")
    if final is None or final["comparison"] is None:
        return ""
    rows = []
    for n in final["networks"]:
        if n["role"] == "finalist":
            continue
        better = n["winner_is_better_by"]
        name = "**this network**" if n["role"] == "winner" else n["label"]
        latency = n["measured_ms"] if n["measured_ms"] is not None else n["predicted_ms"]
        accuracies = f"{_percent(n['test_accuracy'])} ({len(n['seeds'])} seed(s))"
        margin = "" if better is None else f"{points(better)} points"
        rows.append((name, _ms(latency), f"{n['flops']:,}", accuracies, margin))
    given = [f"{n['label']} {_percent(n['known_at_start'])}" for n in final["networks"] if n.get("known_at_start")]
    known = f" Initial weights gave, of their parameters: {', '.join(given)}." if given else ""
    head = ("network", "latency", "multiply-accumulates", "mean test accuracy", "this network is better by")
    return (
        "## Beside the obvious choices\n\nMembers of published families inside the same budgets, trained with the same "
        f"recipe and seeds; ± is half of a 95 % interval.{known}\n\n{_table(head, rows)}"
    )


def _hardware(facts: Mapping[str, Any]) -> str:
    board = facts.get("board") or {}
    rows = [
        (k, ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v)
        for k, v in board.items()
        if v not in (None, "", [], ())
    ]
    body = _table(("fact", "value"), rows) if rows else "No board: the search had no latency budget.\n"
    budgets = ", ".join(f"{k} <= {v:g}" for k, v in facts["budgets"].items()) or "none"
    return f"## Board and budget\n\nBudgets: {budgets}.\n\n{body}"


def _architecture(facts: Mapping[str, Any]) -> str:
    genes = _table(("gene", "value"), list(facts["genes"].items()))
    return f"## Architecture\n\nSpace `{facts['space']}`, encoding `{facts['encoding']}`.\n\n{genes}"


def _data(facts: Mapping[str, Any]) -> str:
    rows = [
        ("data", f"`{facts['data']}`"),
        ("digest", f"`{facts['data_digest']}`"),
        ("classes", len(facts["classes"])),
        ("pictures trained on", facts["pictures"]),
        ("epochs", facts["epochs"]),
        *((("recipe", ", ".join(f"{k} {v}" for k, v in facts["recipe"].items())),) if "recipe" in facts else ()),
        ("seed", facts["seed"]),
        ("search", f"{facts['search']} ({facts['trials']} trials, {facts['strategy']})"),
    ]
    curves = "![Loss and validation accuracy over the epochs](training.svg)\n"
    return f"## Data and training\n\n{_table(('what', 'value'), rows)}\n{curves}"


def _files(facts: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", _WHAT.get(name, "a test picture"), f"`{digest}`") for name, digest in facts["files"].items()]
    worst = ", ".join(f"{name} {value:.1e}" for name, value in facts["differences"].items())
    return (
        f"## Files\n\n{_table(('file', 'what', 'sha256'), rows)}\nLargest difference of a logit from the trained torch "
        f"network, on {facts['checked_pictures']} test pictures (`run.py`: on `examples/`): {worst} (allowed "
        f"{facts['tolerance']:g}).\n"
    )


def _use(facts: Mapping[str, Any]) -> str:
    c, h, w = facts["input"]
    cores = (facts.get("board") or {}).get("cores") or ()
    pin = f"taskset -c {','.join(map(str, cores))} " if cores else ""
    example = next((name for name in facts["files"] if name.startswith("examples/")), "picture.png")
    threads, dtype = facts.get("threads") or 1, facts.get("dtype") or "fp32"
    return f"""## Use

Python, with Pillow, numpy and ncnn or onnxruntime (`python3 -m pip install pillow ncnn`); no lightnas:

    {pin}python3 run.py {example} --repeat 100

C++, with ncnn and stb_image (`apt install libstb-dev`):

    cmake -S cpp -B build -Dncnn_DIR=/usr/local/lib/cmake/ncnn && cmake --build build
    {pin}build/classify {example} --repeat 100

Both read pictures as the training did, and run with {threads} thread(s) in {dtype}{_as_measured(facts)}.
`--logits` prints what the network answers, to compare machines.

In a program of your own (all of it stands in `deploy.json`):

- input: {c} x {h} x {w}, float32, {"grey" if c == 1 else "RGB"}: pixel / 255, then (x - mean) / std per channel with
  mean {_list(facts["mean"])} and std {_list(facts["std"])};
- the picture is turned as its EXIF says, transparency laid on white, scaled to cover the input (bicubic with
  antialiasing, as Pillow's `ImageOps.fit`), the middle cut out; a large JPEG is decoded at 1/8, 1/4 or 1/2 of its size
  first (Pillow's `draft` for twice the input);
- output: one logit per class, in the order of `labels.txt`;
- ncnn: `network.ncnn.param` and `network.ncnn.bin`, input blob `in0`, output blob `out0`. ncnn turns 16 bits on by
  itself where the CPU has them: set `use_fp16_packed`, `use_fp16_storage`, `use_fp16_arithmetic` and
  `use_bf16_storage` as `dtype` tells;
- ONNX: `network.onnx`, input `input` (N, {c}, {h}, {w}), output `output`;
- torch: `Network(Graph.from_dict(json.load(open("graph.json")))).load_state_dict(torch.load("weights.pt"))` with
  `from nas.network import Network` and `from nas.graph import Graph`; norms are folded into the weights.
"""


def _as_measured(facts: Mapping[str, Any]) -> str:
    return ", as the latency above was predicted and measured" if facts.get("predicted_ms") is not None else ""


def _limits(facts: Mapping[str, Any]) -> str:
    return (
        "## Limits\n\nThe accuracy holds for pictures like those of the data set above. The latency holds for this "
        "board, engine, version, threads and clock. Pictures in `examples/` are test pictures of the data set: its "
        "terms are theirs. The C++ program reads JPEG, PNG, BMP, GIF and PPM and turns JPEG files only; it decodes "
        "them with another library than the training did: its logits for JPEG differ a little from those of "
        "`run.py`.\n\n"
        f"Made with lightnas {facts['lightnas']}.\n"
    )


_WEIGHTS = ("network.ncnn.bin", "network.onnx")
_WHAT = {
    "cpp/CMakeLists.txt": "builds the C++ program",
    "cpp/main.cpp": "classifies pictures in C++ with ncnn",
    "cpp/network_config.h": "the input and the engine's options, for C++",
    "cpp/picture.h": "reads and scales pictures, for C++",
    "deploy.json": "all that a program needs to know",
    "graph.json": "the network's ops and wiring",
    "labels.txt": "a class per line, in the order of the outputs",
    "network.ncnn.bin": "weights for ncnn",
    "network.ncnn.param": "the network for ncnn",
    "network.onnx": "network and weights for onnxruntime and others",
    "network.svg": "the drawing above",
    "run.py": "classifies pictures in Python with ncnn or onnxruntime",
    "training.svg": "the learning curves above",
    "weights.pt": "weights for torch, norms folded",
}
