from __future__ import annotations

from xml.etree import ElementTree

from api.export.curves import draw_curves


def _history(start: float) -> list[dict[str, float]]:
    return [{"epoch": e, "loss": 2.0 / e, "val_accuracy": start + e / 100} for e in range(1, 6)]


def test_curves_are_svg_with_text_and_repeat() -> None:
    trainings = [("trial 3", _history(0.8)), ("trial 3", _history(0.81)), ("MobileNetV2 x0.25", _history(0.7))]
    drawn = draw_curves(trainings, highlight="trial 3")
    assert draw_curves(trainings, highlight="trial 3") == drawn
    texts = "".join(ElementTree.fromstring(drawn).itertext())
    for words in ("training loss", "validation accuracy, %", "trial 3", "MobileNetV2 x0.25"):
        assert words in texts
    assert texts.count("trial 3") == 1
    assert "<script" not in drawn


def test_a_single_training_needs_no_legend() -> None:
    assert "trial 9" not in draw_curves([("trial 9", _history(0.5))])
