"""Cut off trainings that fall behind: asynchronous successive halving, on Ray Tune.

Ray's own ASHA compares one number that each trial reports, and a figure's scale among the trials is
not known to a trial. Here the rungs keep the figures themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from jobs.tuning.standing import Figures, scores

FACTOR = 2
"""The worse half is cut off, at rungs of which each lies at twice the epochs of the one before."""


class Halving(FIFOScheduler):
    """ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"), its stopping
    variant, on figures that are standardised over the trials at each rung.

    Args:
        first: epochs that every trial gets.
        epochs: of a whole training.
        objective: see `scores`.
    """

    def __init__(self, first: int, epochs: int, objective: Mapping[str, float]) -> None:
        super().__init__()
        self._objective = objective
        self._rungs: dict[int, dict[str, Figures]] = {}
        while first < epochs:
            self._rungs[first] = {}
            first *= FACTOR

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("ended"):
            return str(self.CONTINUE)
        epoch = result["epoch"]
        last = f"history/{epoch}/"  # Ray Tune hands a scheduler flat results
        figures = {
            name.removeprefix(last): value
            for name, value in result.items()
            if name.startswith(last)
        }
        goes_on = self.goes_on(trial.trial_id, epoch, figures)
        return str(self.CONTINUE if goes_on else self.STOP)

    def goes_on(self, trial: str, epoch: int, figures: Figures) -> bool:
        """Take a trial's figures after so many epochs; False where it is to be cut off.

        At the highest rung that it has come to, it must not be worse than the median of those that
        were there before; the first to come goes on.
        """
        reached = [rung for rung in self._rungs if rung <= epoch]
        if not reached or trial in (there := self._rungs[reached[-1]]):
            return True
        there[trial] = figures
        standing = scores(there, self._objective)
        own = standing.pop(trial)
        return not standing or not own > median(standing.values())
