"""Workers exchange the gradient of a step once, however many passes it has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.closeness import apart
from tests.handi_model.exchanges import (
    PASSES,
    STEPS,
    SmallNetwork,
    batch,
    small_trainer,
    train_alone,
    train_together,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What the first of two workers has counted and learnt."""
    meeting = tmp_path_factory.mktemp("meeting") / "file"
    second = subprocess.Popen(
        [sys.executable, "-m", "tests.handi_model.exchanges", str(meeting)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        done = train_together(0, meeting)
        said, _ = second.communicate(timeout=280)
        assert second.returncode == 0, said
    finally:
        second.kill()
    return done


def test_a_step_of_many_passes_exchanges_each_bucket_of_the_gradient_once(together):
    calls, sent, network = together
    assert PASSES > 1 and len(calls) == STEPS
    assert all(counts == {0: 1, 1: 1} for counts in calls), calls
    assert sent == sum(weight.nbytes for weight in network.parameters())


def test_two_workers_learn_what_one_learns_from_all_the_passes(together):
    # The last pass weighs nothing, and its loss is not finite.
    _, _, network = together
    alone = dict(train_alone().named_parameters())
    for name, weight in network.named_parameters():
        assert apart(weight.detach(), alone[name].detach()) < 1e-4, name


def test_a_pass_that_weighs_nothing_adds_nothing_even_where_it_is_not_finite():
    network = SmallNetwork()
    trainer = small_trainer(network, network)
    trainer.backward(batch(0), "mask", 0, last=False)
    before = [weight.grad.clone() for weight in network.layers]
    broken = batch(1)
    broken.mask_latent.fill_(torch.inf)
    result = trainer.backward(broken, "mask", 1, weight=0.0)
    assert not result.loss.isfinite()
    assert all(torch.equal(a, b.grad) for a, b in zip(before, network.layers, strict=True))
    assert not trainer.step().skipped

    # Its neighbours' gradients count again afterwards.
    trainer.backward(batch(0), "mask", 0)
    assert all(weight.grad.any() for weight in network.layers)
