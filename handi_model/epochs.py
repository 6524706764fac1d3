"""Which clips an optimisation step sees, and which worker takes them: known before anything runs.

A step's `batch_size` clips are cut into passes, each of which one worker takes through the network
at a time. Clips, noise and timesteps of a pass depend on the seed and on its place in the training,
not on who takes it: a training gives the same losses on one worker as on many, and goes on from any
step as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """One clip's turn in an epoch.

    Attributes:
        clip: its index in the data set.
        step: optimisation step of the epoch, from 0.
        number: the pass of the step, from 0.
        counts: False for a clip that only fills a pass: workers go through the network equally
            often and with one shape of batch, or those who are done would wait for ever.
    """

    clip: int
    step: int
    number: int
    counts: bool


@dataclass(frozen=True)
class EpochPlan:
    """How the epochs of a training go through its clips.

    Attributes:
        clips: of the data set.
        batch_size: clips of an optimisation step, over all workers.
        clips_per_pass: clips that a worker takes through the network at a time.
        repeats: times that an epoch goes through the data set.
        seed: of the order.

    Raises:
        ValueError: if the batch does not divide into passes.
    """

    clips: int
    batch_size: int
    clips_per_pass: int
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % self.clips_per_pass:
            raise ValueError(
                f"clips_per_pass: {self.clips_per_pass} does not divide the batch_size "
                f"of {self.batch_size}"
            )

    @property
    def steps(self) -> int:
        """Optimisation steps of an epoch; the last one may have fewer clips."""
        return -(-self.clips * self.repeats // self.batch_size)

    @property
    def passes(self) -> int:
        """Passes of a step."""
        return self.batch_size // self.clips_per_pass

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(clips * repeats,): every clip once before any comes again."""
        rng = np.random.default_rng([self.seed, epoch])
        return np.concatenate([rng.permutation(self.clips) for _ in range(self.repeats)])

    def counted(self, step: int) -> int:
        """Clips of a step that count: `batch_size`, or what is left for the last one."""
        return min(self.batch_size, self.clips * self.repeats - step * self.batch_size)

    def check_workers(self, workers: int) -> None:
        """See that every worker can have as many passes of a step.

        Raises:
            ValueError: if not, in one line.
        """
        if self.passes % workers:
            raise ValueError(
                f"batch_size: {self.batch_size} clips in passes of {self.clips_per_pass} make "
                f"{self.passes} passes, which do not divide among {workers} workers; make it a "
                f"multiple of {self.clips_per_pass * workers}"
            )

    def turns(self, epoch: int, first_step: int, workers: int) -> Iterator[Turn]:
        """An epoch's turns from a step on, in the order in which they are dealt out.

        Turn number i is for worker `i % workers`, which so gets its passes one after another, each
        of `clips_per_pass` turns.

        Raises:
            ValueError: if the passes of a step do not divide among the workers.
        """
        self.check_workers(workers)
        order = self.order(epoch)
        for step in range(first_step, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            parts = np.array_split(batch, self.passes)
            for first in range(0, self.passes, workers):
                for slot in range(self.clips_per_pass):
                    for number in range(first, first + workers):
                        part = parts[number]
                        counts = slot < len(part)
                        clip = part[slot] if counts else batch[0]
                        yield Turn(int(clip), step, number, counts)
