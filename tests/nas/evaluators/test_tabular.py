from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nas.errors import EvaluationError
from nas.evaluator import Architecture
from nas.evaluators.tabular import NAS_BENCH_MACRO_COLUMNS, TableEvaluator
from nas.space import SearchSpace


def _table(tmp_path: Path, *rows: str, header: str = "arch,acc_seed0,acc_seed1,acc_seed2") -> str:
    path = tmp_path / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def _ask(evaluator: TableEvaluator, space: SearchSpace, text: str, seed: int = 0) -> float:
    architecture = Architecture(space, tuple(map(int, text)))
    return evaluator.evaluate(architecture, seed=seed, workdir=Path(), report=lambda _: None).accuracy


def test_equal_networks_share_a_row(tmp_path: Path, macro: SearchSpace) -> None:
    evaluator = TableEvaluator(path=_table(tmp_path, "00000010,64,64,64", "11111111,90,90,90"))
    assert not evaluator.isolated
    assert _ask(evaluator, macro, "11111111") == 0.9
    assert _ask(evaluator, macro, "00000001") == 0.64  # identities commute


def test_the_seed_draws_the_column(tmp_path: Path, macro: SearchSpace) -> None:
    evaluator = TableEvaluator(path=_table(tmp_path, "11111111,10,20,30"))
    drawn = [_ask(evaluator, macro, "11111111", seed) for seed in range(60)]
    assert set(drawn) == {0.1, 0.2, 0.3}
    assert drawn == [_ask(evaluator, macro, "11111111", seed) for seed in range(60)]


def test_other_benchmarks(tmp_path: Path, small: SearchSpace) -> None:
    row = ["0"] * len(small.genes)
    path = _table(tmp_path, f'"{",".join(row)}",0.75', header="code,top1")
    evaluator = TableEvaluator(path=path, arch="code", columns="top1", key="commas", unit="fraction")
    assert _ask(evaluator, small, "".join(row)) == 0.75


def test_nas_bench_macro_answers_for_every_encoding(benchmark_data: Path, macro: SearchSpace) -> None:
    path = benchmark_data / "nas_bench_macro" / "nas_bench_macro_cifar10.csv"
    evaluator = TableEvaluator(path=str(path))
    with path.open() as file:
        rows = {row["arch"]: {float(row[c]) / 100 for c in NAS_BENCH_MACRO_COLUMNS} for row in csv.DictReader(file)}
    for code in np.random.default_rng(0).choice(sorted(rows), 50):
        assert _ask(evaluator, macro, code) in rows[code]


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        (["00000000,1,2,3"], "22222222", "no row for 2,2,2,2,2,2,2,2 of nas-bench-macro"),
        (["00000003,1,2,3"], "22222222", "line 2 holds no encoding of nas-bench-macro written in digits"),
        (["00000000,1,2,3", "000,1,2,3"], "22222222", "line 3 holds no encoding"),
        (["some,1,2,3"], "22222222", "line 2 holds no encoding"),
    ],
)
def test_rows_that_do_not_help(tmp_path: Path, macro: SearchSpace, rows: list[str], code: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        _ask(TableEvaluator(path=_table(tmp_path, *rows)), macro, code)


def test_a_table_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read as a CSV table"):
        TableEvaluator(path=str(tmp_path / "absent.csv"))
    with pytest.raises(EvaluationError, match=r"lacks column acc_seed0, acc_seed1, acc_seed2; name its columns"):
        TableEvaluator(path=_table(tmp_path, "0,1", header="arch,acc"))
    for bad in ("many", "", "101", "-1", "nan"):
        with pytest.raises(EvaluationError, match="line 2 has an accuracy that is no number from 0 to 100"):
            TableEvaluator(path=_table(tmp_path, f"00000000,{bad},2,3"))
    with pytest.raises(EvaluationError, match="key is one of digits, commas; unit one of percent, fraction"):
        TableEvaluator(path=_table(tmp_path), key="letters")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(EvaluationError, match="cannot be read"):
        TableEvaluator(path=str(tmp_path / "binary.csv"))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (b"SECRET\nSECRET\n", {}),
        (b"SECRET,arch,a\n1,2,3\n", {"columns": "b"}),
        (b"arch,a\n00000000,SECRET\n", {"columns": "a"}),
        (b"a,arch\n1,SECRET\n", {"columns": "a"}),
        (b"a,arch\n1,SECRET\n", {"columns": "a", "key": "commas"}),
        (b"a,arch\n1\n", {"columns": "a"}),
        (b"arch,a\nSECRET\x81,1\n", {"columns": "a"}),
    ],
)
def test_an_error_quotes_nothing_of_the_file(
    tmp_path: Path, macro: SearchSpace, text: bytes, options: dict[str, str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text)
    with pytest.raises(EvaluationError) as told:
        _ask(TableEvaluator(path=str(path), **options), macro, "00000000")
    said, cause = str(told.value), told.value.__cause__
    assert cause is None
    assert "SECRET" not in said
    assert "0x81" not in said
