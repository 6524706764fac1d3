"""The eight clips: each action twice, with other people, tables, lights and things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipelines.rendered import actions
from pipelines.rendered.arm import Arm
from pipelines.rendered.camera import Camera
from pipelines.rendered.scene import Light
from pipelines.rendered.textures import Material, label

Colour = tuple[float, float, float]
BOTH, LEFT, RIGHT = ("left", "right"), ("left",), ("right",)
FURTHER = Camera((0.0, -0.36, 0.56), (0.0, 0.035, 0.06), 50.0)
DAY = Light()
EVENING = Light((0.65, 0.30, 1.1), (10.5, 8.4, 6.0), (0.30, 0.30, 0.33))
MORNING = Light((0.35, 0.75, 1.1), (8.6, 8.6, 8.6), (0.36, 0.38, 0.42))
NOON = Light((-0.25, -0.15, 1.35), (8.6, 8.3, 7.6), (0.38, 0.39, 0.41))

STEEL = Material((0.46, 0.46, 0.48), 0.22, 0.9)
CREAM_ENAMEL = Material((0.66, 0.60, 0.46), 0.18, 0.6)
BLUE_ENAMEL = Material((0.05, 0.13, 0.30), 0.18, 0.6)
GREEN_ENAMEL = Material((0.05, 0.20, 0.11), 0.18, 0.6)


@dataclass(frozen=True)
class Clip:
    """One clip to render.

    Attributes:
        stem: name of the file without its ending.
        narration: as EPIC-KITCHENS narrates, verb and noun.
        verb: EPIC-KITCHENS-100 verb and its class.
        noun: EPIC-KITCHENS-100 noun and its class.
        participant: whose arms these are, an identifier in EPIC's manner.
        sides: the hands in the scene.
        action: from the arms to the action.
        body: shape of the MakeHuman body.
        skin: mean colour of the skin, linear RGB.
        table: colour of the wood, linear RGB.
        cloth: pattern and its two colours.
        clutter: kinds of things on the far side of the table.
        light: lamp and daylight.
        camera: of the wearer.
        seed: of textures, places and the renderer's noise.
    """

    stem: str
    narration: str
    verb: tuple[str, int]
    noun: tuple[str, int]
    participant: str
    sides: tuple[str, ...]
    action: Callable[[dict[str, Arm]], actions.Action]
    body: str
    skin: Colour
    table: Colour
    cloth: tuple[str, Colour, Colour]
    clutter: tuple[str, ...]
    light: Light
    seed: int
    camera: Camera = field(default_factory=Camera)


def _print(seed: int, ground: Colour, ink: Colour) -> Material:
    return Material(label(np.random.default_rng(seed), ground, ink), 0.4)


# Classes as the published EPIC-KITCHENS-100 validation annotations give them for these words;
# "slide" is narrated nowhere there and stands with "move".
LIFT, SLIDE, OPEN, STIR = ("lift", 33), ("slide", 11), ("open", 3), ("stir", 10)
BOX, CUP, LID, PAN = ("box", 23), ("cup", 13), ("lid", 6), ("pan", 5)

CATALOGUE: tuple[Clip, ...] = (
    Clip(
        stem="lift_box_1",
        narration="lift box",
        verb=LIFT,
        noun=BOX,
        participant="R01",
        sides=BOTH,
        action=lambda arms: actions.lift_box(
            arms, _print(1, (0.10, 0.27, 0.30), (0.78, 0.72, 0.55)), (0.062, 0.045, 0.040)
        ),
        body="caucasian-female",
        skin=(0.62, 0.37, 0.27),
        table=(0.36, 0.21, 0.11),
        cloth=("linen", (0.60, 0.56, 0.47), (0.10, 0.20, 0.36)),
        clutter=("plate", "jar", "orange", "carton"),
        light=DAY,
        seed=11,
    ),
    Clip(
        stem="lift_box_2",
        narration="lift box",
        verb=LIFT,
        noun=BOX,
        participant="R02",
        sides=BOTH,
        action=lambda arms: actions.lift_box(
            arms, _print(5, (0.66, 0.50, 0.30), (0.40, 0.05, 0.05)), (0.066, 0.045, 0.040)
        ),
        body="african-female",
        skin=(0.200, 0.100, 0.060),
        table=(0.50, 0.36, 0.22),
        cloth=("stripes", (0.62, 0.60, 0.56), (0.50, 0.10, 0.08)),
        clutter=("book", "bottle", "apple", "plate"),
        light=MORNING,
        seed=12,
    ),
    Clip(
        stem="slide_cup_1",
        narration="slide cup",
        verb=SLIDE,
        noun=CUP,
        participant="R03",
        sides=RIGHT,
        action=lambda arms: actions.slide_cup(
            arms, Material((0.70, 0.66, 0.58), 0.2), 0.040, 0.088, np.array([-0.10, 0.045])
        ),
        body="asian-female",
        skin=(0.55, 0.33, 0.21),
        table=(0.24, 0.13, 0.07),
        cloth=("gingham", (0.66, 0.65, 0.60), (0.12, 0.26, 0.14)),
        clutter=("jar", "board", "carton", "apple"),
        light=EVENING,
        seed=13,
    ),
    Clip(
        stem="slide_cup_2",
        narration="slide cup",
        verb=SLIDE,
        noun=CUP,
        participant="R04",
        sides=LEFT,
        action=lambda arms: actions.slide_cup(
            arms, Material((0.06, 0.17, 0.26), 0.2), 0.040, 0.088, np.array([0.10, 0.045])
        ),
        body="asian-female",
        skin=(0.42, 0.225, 0.14),
        table=(0.44, 0.29, 0.17),
        cloth=("linen", (0.30, 0.34, 0.30), (0.66, 0.62, 0.50)),
        clutter=("plate", "bottle", "book", "orange"),
        light=NOON,
        seed=14,
    ),
    Clip(
        stem="open_lid_1",
        narration="open lid",
        verb=OPEN,
        noun=LID,
        participant="R05",
        sides=BOTH,
        action=lambda arms: actions.open_lid(arms, "right", BLUE_ENAMEL, BLUE_ENAMEL, 0.104, 0.046),
        body="asian-male",
        skin=(0.48, 0.28, 0.18),
        table=(0.27, 0.155, 0.085),
        cloth=("gingham", (0.66, 0.62, 0.56), (0.46, 0.09, 0.08)),
        clutter=("board", "jar", "orange", "bottle"),
        light=DAY,
        seed=15,
        camera=FURTHER,
    ),
    Clip(
        stem="open_lid_2",
        narration="open lid",
        verb=OPEN,
        noun=LID,
        participant="R06",
        sides=LEFT,
        action=lambda arms: actions.open_lid(
            arms, "left", CREAM_ENAMEL, CREAM_ENAMEL, 0.082, 0.045
        ),
        body="african-female",
        skin=(0.26, 0.130, 0.075),
        table=(0.30, 0.18, 0.10),
        cloth=("stripes", (0.58, 0.54, 0.44), (0.14, 0.24, 0.32)),
        clutter=("carton", "plate", "apple", "jar"),
        light=MORNING,
        seed=16,
        camera=FURTHER,
    ),
    Clip(
        stem="stir_pan_1",
        narration="stir pan",
        verb=STIR,
        noun=PAN,
        participant="R07",
        sides=BOTH,
        action=lambda arms: actions.stir_pan(arms, "right", STEEL, 0.112, 0.040, 1.5),
        body="african-male",
        skin=(0.115, 0.055, 0.033),
        table=(0.46, 0.32, 0.20),
        cloth=("linen", (0.62, 0.58, 0.50), (0.45, 0.16, 0.06)),
        clutter=("jar", "bottle", "board", "orange"),
        light=NOON,
        seed=17,
        camera=FURTHER,
    ),
    Clip(
        stem="stir_pan_2",
        narration="stir pan",
        verb=STIR,
        noun=PAN,
        participant="R08",
        sides=LEFT,
        action=lambda arms: actions.stir_pan(arms, "left", GREEN_ENAMEL, 0.090, 0.045, 1.5),
        body="caucasian-female",
        skin=(0.72, 0.48, 0.38),
        table=(0.26, 0.15, 0.08),
        cloth=("gingham", (0.64, 0.62, 0.58), (0.10, 0.18, 0.34)),
        clutter=("plate", "carton", "apple", "book"),
        light=EVENING,
        seed=18,
        camera=FURTHER,
    ),
)
