"""The model card: what a stranger needs to trust and use an exported network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(facts: Mapping[str, Any]) -> str:
    """Markdown of an export's facts (the content of `lightnas-export.json`)."""
    parts = [
        _front(facts),
        f"# {facts['space']} · {facts['encoding']}\n",
        "An image classifier found by lightnas: architecture search under a hardware budget.\n",
        _result(facts),
        _hardware(facts),
        _architecture(facts),
        _data(facts),
        _files(facts),
        _use(facts),
        _limits(facts),
    ]
    return "\n".join(part for part in parts if part)


def _front(facts: Mapping[str, Any]) -> str:
    return (
        f"---\nlicense: {facts['license']}\nlibrary_name: lightnas\npipeline_tag: image-classification\n"
        "tags: [neural-architecture-search, ncnn, onnx]\n---\n"
    )


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(v) for v in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g} ms"


def _result(facts: Mapping[str, Any]) -> str:
    rows = [
        ("test accuracy (test pictures looked at once, for this network only)", _percent(facts["test_accuracy"])),
        ("validation accuracy after the final training", _percent(facts["val_accuracy"])),
        ("validation accuracy in the search", _percent(facts["search_accuracy"])),
        ("multiply-accumulates at batch 1", f"{facts['flops']:,}"),
        ("parameters (trainable form)", f"{facts['params']:,}"),
        ("latency, predicted", _ms(facts["predicted_ms"])),
        ("latency, measured (median of whole runs)", _ms(facts["measured_ms"])),
        ("latency, measured (p95)", _ms(facts["measured_p95_ms"])),
    ]
    recall = [(f"`{name}`", _percent(value)) for name, value in facts["recall"].items()]
    return f"## Results\n\n{_table(('what', 'value'), rows)}\n### Recall per class, test pictures\n\n" + _table(
        ("class", "recall"), recall
    )


def _hardware(facts: Mapping[str, Any]) -> str:
    board = facts["board"]
    rows = [
        (k, ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v)
        for k, v in (board or {}).items()
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
        ("seed", facts["seed"]),
        ("search", f"{facts['search']} ({facts['trials']} trials, {facts['strategy']})"),
    ]
    return f"## Data and training\n\n{_table(('what', 'value'), rows)}"


def _files(facts: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", f"`{digest}`") for name, digest in facts["files"].items()]
    worst = ", ".join(f"{name} {value:.1e}" for name, value in facts["differences"].items())
    return (
        f"## Files\n\n{_table(('file', 'sha256'), rows)}\nLargest difference of a logit from the trained torch "
        f"network, on {facts['checked_pictures']} test pictures: {worst} (allowed {facts['tolerance']:g}).\n"
    )


def _use(facts: Mapping[str, Any]) -> str:
    c, h, w = facts["input"]
    return f"""## Use

Input: {c} x {h} x {w}, float32, pixel / 255, then (x - mean) / std per channel with mean {facts["mean"]} and
std {facts["std"]}. Output: one logit per class, in the order of `classes` in `lightnas-export.json`.

- ONNX: `network.onnx`, input `input` (N, {c}, {h}, {w}), output `output`.
- ncnn: `network.ncnn.param` and `network.ncnn.bin`, input blob `in0`, output blob `out0`.
- torch: `Network(Graph.from_dict(json.load(open("graph.json")))).load_state_dict(torch.load("weights.pt"))` with
  `from nas.network import Network` and `from nas.graph import Graph`; norms are folded into the weights.
"""


def _limits(facts: Mapping[str, Any]) -> str:
    return (
        "## Limits\n\nThe accuracy holds for pictures like those of the data set above. The latency holds for this "
        f"board, engine, version, threads and clock. Made with lightnas {facts['lightnas']}.\n"
    )
