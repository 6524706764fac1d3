from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handi_model.epochs import EpochPlan


@st.composite
def plans_and_workers(draw):
    workers = draw(st.integers(1, 4))
    per_pass = draw(st.integers(1, 4))
    rounds = draw(st.integers(1, 3))
    clips = draw(st.integers(1, 60))
    repeats = draw(st.integers(1, 3))
    plan = EpochPlan(clips, workers * per_pass * rounds, per_pass, repeats, draw(st.integers(0, 9)))
    return plan, workers


@given(plans_and_workers(), st.integers(0, 5))
def test_every_clip_counts_once_in_an_epoch_or_as_often_as_the_epoch_repeats(drawn, epoch):
    plan, workers = drawn
    counted = Counter(turn.clip for turn in plan.turns(epoch, 0, workers) if turn.counts)
    assert counted == dict.fromkeys(range(plan.clips), plan.repeats)


@given(plans_and_workers(), st.integers(0, 5))
def test_every_worker_goes_through_the_network_equally_often_one_pass_after_another(drawn, epoch):
    plan, workers = drawn
    turns = list(plan.turns(epoch, 0, workers))
    own = [turns[worker::workers] for worker in range(workers)]
    assert {len(one) for one in own} == {plan.steps * plan.batch_size // workers}
    for worker, one in enumerate(own):
        passes = [one[i : i + plan.clips_per_pass] for i in range(0, len(one), plan.clips_per_pass)]
        assert all(len({(turn.step, turn.number) for turn in taken}) == 1 for taken in passes)
        assert all(taken[0].number % workers == worker for taken in passes)


@given(plans_and_workers(), st.integers(0, 5))
def test_a_pass_has_the_same_clips_whoever_takes_it(drawn, epoch):
    plan, workers = drawn

    def passes(number_of_workers):
        clips = {}
        for turn in plan.turns(epoch, 0, number_of_workers):
            clips.setdefault((turn.step, turn.number), []).append((turn.clip, turn.counts))
        return clips

    assert passes(workers) == passes(1)


@given(plans_and_workers(), st.integers(0, 5), st.data())
def test_an_epoch_gone_on_with_is_the_rest_of_it(drawn, epoch, data):
    plan, workers = drawn
    first = data.draw(st.integers(0, plan.steps))
    rest = [turn for turn in plan.turns(epoch, 0, workers) if turn.step >= first]
    assert list(plan.turns(epoch, first, workers)) == rest


@given(plans_and_workers())
def test_the_clips_of_a_step_that_count_are_as_many_as_the_plan_says(drawn):
    plan, workers = drawn
    turns = list(plan.turns(0, 0, workers))
    for step in range(plan.steps):
        counts = sum(turn.counts for turn in turns if turn.step == step)
        assert counts == plan.counted(step)


def test_epochs_differ_and_a_seed_repeats_them():
    plan = EpochPlan(50, 10, 5, seed=1)
    assert plan.order(0).tolist() == EpochPlan(50, 10, 5, seed=1).order(0).tolist()
    assert plan.order(0).tolist() != plan.order(1).tolist()
    assert plan.order(0).tolist() != EpochPlan(50, 10, 5, seed=2).order(0).tolist()


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="clips_per_pass: 3 does not divide the batch_size of 8"):
        EpochPlan(50, 8, 3)
    with pytest.raises(ValueError, match="2 passes, which do not divide among 3 workers"):
        list(EpochPlan(50, 8, 4).turns(0, 0, 3))
