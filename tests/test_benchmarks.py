import json

import pytest

from tests.benchmarks.contender import Contender, LeftOut
from tests.benchmarks.problems import Problem
from tests.benchmarks.report import side_by_side
from tests.benchmarks.rounds import AGREE, Times, play, ratio
from tests.benchmarks.targets import TARGETS, held_to
from tests.benchmarks.work import OURS, Work, all_work

TINY = Problem("double_well", 2000, (2,), 200, 0.01)


def answers(*seconds, std=1.0, numbers=1_000_000):
    runs = [{"seconds": s, "std": std, "peak_bytes": 1, "numbers": numbers, "extended": False} for s in seconds]
    return Times(runs[0], runs)


def test_contenders_in_processes_of_their_own_do_the_same_work():
    work = Work("tiny", "tiny", TINY, {OURS: "ebmcore:sample", "loop": "torch_loop:closed_form"})
    times = play({name: (who, TINY) for name, who in work.contenders.items()}, 2)
    report = side_by_side(work, times)
    assert [len(own.runs) for own in times.values()] == [2, 2]
    assert report.figures["loop / ebmcore"] > 0
    assert len(report.lines) == 4
    assert json.dumps(report.measured)
    # The density's standard deviation, by quadrature; 4000 numbers know it to 1 %, and ULA's bias is less.
    assert times["loop"].first["std"] == pytest.approx(0.9231, rel=AGREE)


def test_a_contender_that_cannot_take_part_says_why():
    with pytest.raises(LeftOut, match="no closed form of conv"):
        Contender("torch_loop:closed_form", Problem("conv", 1, (1, 8, 8), 1, 0.01))


def test_ratios_are_taken_within_rounds():
    # The second round was slow for both: the median of ratios is 2, whatever the neighbours did.
    assert ratio(answers(2.0, 20.0, 4.0), answers(1.0, 10.0, 2.0)) == 2


def test_targets_name_work_and_contenders_that_exist():
    work = {one.name: one for one in all_work()}
    for target in TARGETS:
        if target.work in work:
            one, other = target.figure.split(" / ")
            assert {one, other} <= set(work[target.work].contenders)


def test_a_target_is_reached_at_its_number():
    work = next(one for one in all_work() if one.name == "double_well")
    report = side_by_side(work, {OURS: answers(1.0), "TorchEBM": answers(10.0), "limit (C)": answers(0.5)})
    assert {one["figure"]: one["reached"] for one in held_to([report])} == {
        "TorchEBM / ebmcore": True,
        "ebmcore / limit (C)": False,
    }
