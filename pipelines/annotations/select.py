"""Which clips of the table a job works on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from pipelines.records import Clip


def select(
    clips: Iterable[Clip],
    *,
    verb: Collection[str] | None = None,
    noun: Collection[str] | None = None,
    participant: Collection[str] | None = None,
    split: Collection[str] | None = None,
    limit: int | None = None,
) -> list[Clip]:
    """The clips that fit every key given, in table order.

    A key is a word or several accepted words, compared without regard to case; None and an empty
    collection accept all.

    Args:
        noun: `tap` also accepts EPIC-KITCHENS's `tap:water`, whose part before the colon it is.
        split: train, validation or test.
        limit: take the first so many of them.

    Raises:
        ValueError: the limit is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, expected 0 or more")
    verbs, nouns, participants, splits = map(_words, (verb, noun, participant, split))
    chosen = (
        clip
        for clip in clips
        if (not verbs or clip.verb.casefold() in verbs)
        and (not nouns or not nouns.isdisjoint(_noun_names(clip.noun)))
        and (not participants or clip.participant.casefold() in participants)
        and (not splits or clip.split.casefold() in splits)
    )
    return list(islice(chosen, limit))


def _words(accepted: Collection[str] | None) -> set[str]:
    words = [accepted] if isinstance(accepted, str) else accepted or []
    return {word.strip().casefold() for word in words}


def _noun_names(noun: str) -> set[str]:
    folded = noun.casefold()
    return {folded, folded.partition(":")[0]}
