"""The loop over epochs, wherever a training goes on: what is trained, validated and saved when."""

from types import SimpleNamespace

import pytest

from handi_model.config import STAGES
from jobs.training import worker
from jobs.training.course import Course
from jobs.training.settings import TrainSettings
from jobs.training.work import Work

STEPS = 3
"""Of an epoch."""


@pytest.fixture
def happened(monkeypatch):
    """Run the loop from a course on, with stand-ins for Ray and the network: what happened when."""

    def run(course: Course, held_out: int, every: int = 100) -> list[tuple[str, int]]:
        told: list[tuple[str, int]] = []
        settings = TrainSettings(
            **{"data": "d", "output": "o", "epochs": 3, "batch_size": 4, "checkpoint_every": every},
            validation={"every_epochs": 2, "held_out": held_out},
        )
        work = Work(
            settings=settings,
            training_clips=list(range(4 * STEPS)),
            held_out=list(range(held_out)),
            restored=course,
            checkpoints=SimpleNamespace(wait=lambda: None),
            rank=0,
            workers=1,
            trainer=SimpleNamespace(networks=SimpleNamespace(stages=STAGES)),
            **dict.fromkeys(["index", "latents", "pipe", "meter", "trained_before"]),
        )

        def train_epoch(work, course, plan, epoch, stage, total, reporter, asked):
            assert epoch == course.done // STEPS
            while course.done < (epoch + 1) * STEPS:
                course.done += 1
                worker._save_if_due(work, course, total)
            told.append((stage, course.done))
            return True

        def validate_together(work, epoch, reporter):
            assert epoch == course.done // STEPS - 1
            told.append(("validated", course.done))
            return {"validation/mask_noise": 1.0, "validation/video_noise": 1.0}

        context = SimpleNamespace(get_world_rank=lambda: 0)
        monkeypatch.setattr(worker.train, "get_context", lambda: context)
        monkeypatch.setattr(worker, "set_up", lambda *_: work)
        monkeypatch.setattr(worker, "_train_epoch", train_epoch)
        monkeypatch.setattr(worker, "validate_together", validate_together)
        monkeypatch.setattr(Work, "save", lambda _, course: told.append(("saved", course.done)))
        monkeypatch.setattr(worker, "save_model", lambda _: told.append(("model", course.done)))
        monkeypatch.setattr(worker, "write_result", lambda *_: None)
        monkeypatch.setattr(worker.dist, "barrier", lambda: None)
        worker._train(settings, SimpleNamespace(tell=lambda _: None), None)
        return told

    return run


def test_epochs_alternate_and_each_validation_adds_its_score_to_the_checkpoint(happened):
    assert happened(Course(), held_out=1, every=3) == [
        *[("saved", 3), ("mask", 3)],
        *[("saved", 6), ("video", 6), ("validated", 6), ("saved", 6)],
        *[("saved", 9), ("mask", 9), ("validated", 9), ("saved", 9), ("model", 9)],
    ]


def test_nothing_held_out_saves_at_ends_of_epochs_too(happened):
    for every, expected in ((3, [3, 6, 9]), (100, [9])):
        told = happened(Course(), held_out=0, every=every)
        assert [at for what, at in told if what == "saved"] == expected


@pytest.mark.parametrize("validated", [0, 6])
def test_whoever_goes_on_from_an_epochs_end_validates_if_that_was_missed(happened, validated):
    told = happened(Course(done=6, validated=validated), held_out=1)
    missed = [("validated", 6), ("saved", 6)] if not validated else []
    assert told == [*missed, ("mask", 9), ("validated", 9), ("saved", 9), ("model", 9)]


def test_a_training_whose_steps_are_done_only_leaves_its_model(happened):
    assert happened(Course(done=9, validated=9), held_out=1) == [("model", 9)]
