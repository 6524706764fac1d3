"""What lies beside the weights of a saved pipeline: its model card, and its class for diffusers.

The two modules are what diffusers runs under `trust_remote_code` where this package has not been
imported: one names the pipeline's class, the other its network's. The code itself is not in them:
the package must be installed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handi_model.pipeline import HandiPipeline

MODULES = {
    "pipeline.py": ("handi_model.pipeline", "HandiPipeline"),
    # Looked for beside the network's weights, under the library that the index names.
    "unet/handi_model.unet.py": ("handi_model.unet", "HandiUNet"),
}
"""File -> what it imports, from where."""

MODULE = '''"""Lets diffusers find {name} where the package handi is installed."""

from {module} import {name}

__all__ = ["{name}"]
'''

STAGES = {
    True: "Stage 1 denoises where the hands will move, stage 2 the clip inside that area; outside\n"
    "of it every frame is the input picture.",
    False: "It was trained without motion areas: there is no stage 1, and a clip may change\n"
    "anywhere.",
}
"""By whether the model uses motion areas."""

LICENCES = {"damo-vilab/text-to-video-ms-1.7b": "cc-by-nc-4.0"}
"""Of checkpoints that a model may have started from; what is trained from them is under it too."""

CARD = """---
{licence}
library_name: diffusers
pipeline_tag: image-to-video
{base}tags:
- handi
- hands
- egocentric
- text-and-image-to-video
---

# A HANDI model

From one picture and an instruction it makes a short clip in which hands do the action and the rest
of the scene stays still, after *Hand-Centric Text-and-Image Conditioned Video Generation* (Li, Cao
and Corso). {stages}

| | |
|---|---|
{facts}

## How to use it

The package `handi` must be installed: the networks' code is in it, not in this folder.

```python
from handi_model import HandiPipeline

pipe = HandiPipeline.from_pretrained("PATH_OR_HUB_ID")
out = pipe(image=picture, prompt="open the drawer")  # out.frames, out.masks
```

`DiffusionPipeline.from_pretrained` opens it too, once `handi_model` is imported, or with
`custom_pipeline="pipeline", trust_remote_code=True` without that.

## Limits

Instructions, hands and cameras unlike those of its training data give poor clips. Clips are made
up: they are no record of what somebody did.

## Licence

{terms}
"""


def write_beside(pipe: HandiPipeline, folder: str | os.PathLike) -> None:
    """Write card and modules into the folder that the pipeline was saved in.

    A README.md that is there stays: somebody may have written it.
    """
    for name, (module, kind) in MODULES.items():
        (Path(folder) / name).write_text(MODULE.format(module=module, name=kind))
    card = Path(folder) / "README.md"
    if not card.exists():
        card.write_text(model_card(pipe))


def model_card(pipe: HandiPipeline) -> str:
    """The card's text: front matter as on the hub, and what the pipeline knows of itself."""
    config, base = pipe.config, pipe.config.base_model
    facts = {
        "Frames": f"{config.num_frames} of {pipe.resolution}x{pipe.resolution} pixels",
        "Frames a second": f"{config.fps:g}",
        "Denoising steps, guidance": f"{config.num_inference_steps}, {config.guidance_scale:g}",
        "Predicts": pipe.scheduler.config.prediction_type,
        "Parameters": f"{sum(one.numel() for one in pipe.unet.parameters()):,} in the UNet",
        "Started from": base,
    }
    on_hub = bool(base and re.fullmatch(r"[\w.-]+/[\w.-]+", base))
    if not base:
        licence = "license: apache-2.0"
        terms = "The networks that it started from are under Apache-2.0."
    elif base in LICENCES:
        licence = f"license: {LICENCES[base]}"
        terms = f"It started from {base}, which is under {LICENCES[base]}, and so is this."
    else:
        licence = f"license: other\nlicense_name: as-{re.sub(r'[^a-z0-9]+', '-', base.lower())}"
        terms = f"It started from {base}: its licence is this one's too."
    return CARD.format(
        licence=licence,
        stages=STAGES[config.uses_mask],
        base=f"base_model: {base}\n" if on_hub else "",
        facts="\n".join(f"| {name} | {fact} |" for name, fact in facts.items() if fact),
        terms=f"{terms} The clips that it was trained on may bind it further; whoever publishes it "
        "completes this.",
    )
