"""Learning curves as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

History = Sequence[Mapping[str, float]]
"""Per epoch its number, `loss` and `val_accuracy`."""

_HIGHLIGHT = 1.8
_PLAIN = 0.9


def draw_curves(trainings: Sequence[tuple[str, History]], *, highlight: str = "") -> str:
    """Loss and validation accuracy over the epochs; trainings of one label share a colour.

    Args:
        trainings: (label, history) of each training; several of one label are its seeds.
        highlight: the label that is drawn thicker.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and equal curves are equal files.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lightnas", "font.size": 9}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        labels = list(dict.fromkeys(label for label, _ in trainings))
        for label, history in trainings:
            colour = f"C{labels.index(label) % 10}"
            style = {"color": colour, "linewidth": _HIGHLIGHT if label == highlight else _PLAIN}
            epochs = [entry["epoch"] for entry in history]
            loss.plot(epochs, [entry["loss"] for entry in history], **style)
            accuracy.plot(epochs, [100 * entry["val_accuracy"] for entry in history], **style)
        for label in labels:
            accuracy.plot([], [], color=f"C{labels.index(label) % 10}", label=label)
        for axes, title in ((loss, "training loss"), (accuracy, "validation accuracy, %")):
            axes.set_title(title, loc="left")
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        if len(labels) > 1:
            figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right upper", frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
