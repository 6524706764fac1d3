"""Instructions for hands, from a small grammar: what the tiny text encoder learns from."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

VERBS: tuple[tuple[str, ...], ...] = tuple(
    tuple(word.strip() for word in line.split(","))
    for line in """
    pick up, lift, raise, lift up
    put down, set down, lower, lay down
    open, open up
    close, shut
    cut, slice, chop, cut up
    stir, mix, blend
    pour, tip out
    wash, rinse, wash off
    wipe, wipe off, wipe clean
    push, push away
    pull, pull out, draw out
    slide, shift, slide over
    turn, rotate, turn around
    flip, turn over, flip over
    take, grab, grasp, get
    place, put, position
    hold, keep hold of
    squeeze, press together
    press, push down
    peel, skin
    shake, shake up
    fold, fold up
    unfold, spread out
    tear, rip
    break, snap, crack
    throw, toss
    drop, let go of
    catch, seize
    carry, bring
    fill, fill up
    empty, empty out
    scoop, spoon up, ladle
    sprinkle, scatter
    spread, smear
    grate, shred
    roll, roll out
    knead, work
    whisk, beat
    mash, crush
    scrub, scour
    dry, dry off
    hang, hang up
    screw in, screw on, tighten
    unscrew, loosen
    hammer, hit
    saw, saw through
    drill, bore
    sand, smooth
    paint, brush over
    glue, stick
    tie, knot
    untie, undo
    wrap, wrap up
    unwrap, unpack
    pack, stow
    stack, pile up
    sort, arrange
    switch on, turn on
    switch off, turn off
    plug in, connect
    unplug, disconnect
    point at, show
    tap, pat
    touch, feel
    stroke, rub
    measure, weigh
    write on, mark
    thread, string
    sew, stitch
    type on, tap on
    inspect, look at, check
    """.strip().splitlines()
)
"""Groups of words for one action; the first names the group."""

_NOUN_LIST = """
cup, mug, glass, bottle, jar, jug, bowl, plate, saucer, tray, pan, pot, lid, kettle, teapot,
saucepan, frying pan, wok, colander, sieve, grater, peeler, knife, fork, spoon, teaspoon, ladle,
spatula, whisk, tongs, rolling pin, chopping board, cutting board, can, can opener, corkscrew,
scissors, sponge, cloth, towel, dishcloth, napkin, paper towel, apron, oven glove, dish rack, sink,
tap, drawer, cupboard, cabinet, door, shelf, fridge, freezer, oven, hob, stove, microwave, toaster,
blender, mixer, dishwasher, coffee machine, coffee, tea, teabag, milk, water, juice, wine, beer,
oil, vinegar, salt, pepper, sugar, flour, rice, pasta, noodles, bread, loaf, toast, butter, cheese,
yoghurt, cream, egg, ham, bacon, sausage, chicken, beef, fish, salmon, shrimp, tomato, cucumber,
carrot, potato, onion, garlic, ginger, lettuce, cabbage, spinach, broccoli, cauliflower, courgette,
aubergine, mushroom, pumpkin, celery, leek, radish, corn, bean, pea, chili, lemon, lime, orange,
apple, banana, pear, peach, grape, strawberry, cherry, melon, mango, avocado, pineapple, nut,
almond, herb, basil, parsley, dough, batter, sauce, soup, salad, pizza, sandwich, cake, biscuit,
chocolate, honey, jam, spice, stock, packet, bag, box, carton, foil, cling film, wrapper, label,
bin, basket, crate, container, tin, table, chair, tablecloth, mat, candle, lamp, phone, remote,
keyboard, mouse, laptop, book, page, paper, envelope, letter, card, pen, pencil, marker, eraser,
ruler, tape, stapler, folder, key, coin, wallet, watch, ring, glasses, shirt, sock, shoe, shoelace,
hat, glove, zip, button, needle, thread, yarn, fabric, rope, string, hammer, screwdriver, screw,
nail, bolt, wrench, pliers, saw, drill, chisel, file, sandpaper, plank, wood, brick, wire, cable,
plug, switch, battery, bulb, brush, paint, bucket, hose, ladder, toolbox, clamp, wheel, chain, pump,
engine, plant, flower, leaf, soil, seed, pot plant, shovel, rake, ball, toy, block, puzzle, dice,
cube, doll, guitar, camera, bicycle, comb, toothbrush, toothpaste, soap, shampoo, bandage, pill,
mirror, pillow, blanket, sheet, iron, broom, dustpan, hand, finger
"""
NOUNS: tuple[str, ...] = tuple(" ".join(word.split()) for word in _NOUN_LIST.split(","))

TEMPLATES = (
    ("{verb} {noun}", 4),
    ("{verb} the {noun}", 6),
    ("{verb} a {noun}", 2),
    ("{verb} the {adjective} {noun}", 2),
    ("{verb} {adjective} {noun}", 1),
    ("{verb} the {noun} {place}", 2),
    ("{verb} the {noun} with {hand}", 2),
    ("use {hand} to {verb} the {noun}", 1),
    ("please {verb} the {noun}", 1),
    ("now {verb} that {noun} again", 1),
    ("{verb} the {noun} {manner}", 1),
)
"""Sentences and their weights."""

# fmt: off
ADJECTIVES = (
    "red", "green", "blue", "yellow", "white", "black", "brown", "small", "big", "round",
    "long", "old", "new", "clean", "dirty", "wet", "hot", "cold", "full", "empty", "wooden",
    "metal", "plastic", "other", "first", "second", "left", "right",
)
# fmt: on
PLACES = (
    "on the table",
    "in the sink",
    "on the counter",
    "from the shelf",
    "into the bowl",
    "in front of me",
    "next to the window",
    "on the floor",
    "onto the plate",
    "under the lamp",
)
HANDS = ("both hands", "the left hand", "the right hand", "two fingers", "one hand", "my hands")
MANNERS = ("slowly", "quickly", "carefully", "gently", "to the left", "to the right", "in half")
HELD_OUT_SHARE = 8
"""One in so many pairs of an action and a thing is never trained on."""


@dataclass(frozen=True)
class Instruction:
    """One sentence and what it tells to do.

    Attributes:
        text: lower case, without a full stop.
        verb: index into `VERBS`.
        noun: index into `NOUNS`.
    """

    text: str
    verb: int
    noun: int


def is_held_out(verb: int, noun: int) -> bool:
    """Whether the pair is kept for checks; the same in every run."""
    return crc32(f"{VERBS[verb][0]} {NOUNS[noun]}".encode()) % HELD_OUT_SHARE == 0


def instructions(count: int, rng: np.random.Generator, held_out: bool = False) -> list[Instruction]:
    """Draw sentences of pairs that are trained on, or of those that are `held_out`."""
    weights = np.array([weight for _, weight in TEMPLATES], float)
    drawn: list[Instruction] = []
    while len(drawn) < count:
        verb, noun = int(rng.integers(len(VERBS))), int(rng.integers(len(NOUNS)))
        if is_held_out(verb, noun) != held_out:
            continue
        template, _ = TEMPLATES[rng.choice(len(TEMPLATES), p=weights / weights.sum())]
        text = template.format(
            verb=_one(VERBS[verb], rng),
            noun=NOUNS[noun],
            adjective=_one(ADJECTIVES, rng),
            place=_one(PLACES, rng),
            hand=_one(HANDS, rng),
            manner=_one(MANNERS, rng),
        )
        drawn.append(Instruction(text, verb, noun))
    return drawn


def _one(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]
