"""The scene in Mitsuba: table, things, arms, a window and a lamp; one picture a moment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from typing import Any

import cv2
import numpy as np

from pipelines.rendered.camera import HEIGHT, WIDTH, Camera
from pipelines.rendered.shapes import Shape
from pipelines.rendered.textures import Material

PASS_SAMPLES = 8  # small passes reuse their memory and take far less time than a large one
MOST_PASSES = 1000  # keeps the seeds of different clips apart
LLVM_PLACES = (
    "/usr/lib/*-linux-gnu/libLLVM-19.so",
    "/usr/lib/*-linux-gnu/libLLVM.so.19*",
    "/usr/lib/llvm-19/lib/libLLVM*.so*",
    "/usr/lib64/libLLVM.so.19*",
)


@dataclass(frozen=True)
class Thing:
    """A named surface in the scene; names are unique."""

    name: str
    shape: Shape
    material: Material


@dataclass(frozen=True)
class Light:
    """A rectangular lamp or window with daylight from all around.

    Attributes:
        position: of its centre, metres; it faces the table.
        radiance: linear RGB of the lamp.
        ambient: linear RGB from every direction.
    """

    position: tuple[float, float, float] = (-0.6, 0.35, 1.2)
    radiance: tuple[float, float, float] = (9.5, 8.6, 7.4)
    ambient: tuple[float, float, float] = (0.34, 0.36, 0.41)


def load_mitsuba() -> Any:
    """Import Mitsuba with its fastest usable variant and return the module.

    LLVM 19 is used where it is found (``DRJIT_LIBLLVM_PATH``, else the usual library folders);
    without it the plain interpreter renders, at half the speed. Older LLVMs (14, 16) abort on
    instructions that Mitsuba 3.9 emits, hence no other version is tried.

    Raises:
        ImportError: Mitsuba is not installed.
    """
    try:
        import mitsuba
    except ImportError as error:
        raise ImportError("no Mitsuba: pip install 'handi[render]'") from error
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        found = [path for pattern in LLVM_PLACES for path in sorted(glob(pattern))]
        if found:
            os.environ["DRJIT_LIBLLVM_PATH"] = found[0]
    variant = "llvm_ad_rgb" if "DRJIT_LIBLLVM_PATH" in os.environ else "scalar_rgb"
    mitsuba.set_variant(variant)
    return mitsuba


class Studio:
    """A still scene in which some things change their surface from picture to picture."""

    def __init__(
        self,
        things: list[Thing],
        arms: dict[str, tuple[Shape, np.ndarray]],
        camera: Camera,
        light: Light,
    ) -> None:
        """Build the scene.

        Args:
            things: everything but the arms, where it stands at first.
            arms: name to the arm's surface and its (V, 3) linear RGB colours.
            camera: fixed.
            light: fixed.
        """
        self._mi = load_mitsuba()
        mi = self._mi
        transform = mi.ScalarTransform4f
        description = {
            "type": "scene",
            "sensor": {
                "type": "perspective",
                "fov": camera.field_of_view,
                "fov_axis": "x",
                "to_world": transform().look_at(
                    list(camera.position), list(camera.target), [0, 0, 1]
                ),
                "film": {
                    "type": "hdrfilm",
                    "width": WIDTH,
                    "height": HEIGHT,
                    "rfilter": {"type": "gaussian"},
                    "pixel_format": "rgb",
                },
                "sampler": {"type": "independent"},
            },
            "ambient": {"type": "constant", "radiance": _rgb(light.ambient)},
            "lamp": {
                "type": "rectangle",
                "to_world": transform().look_at(list(light.position), [0, 0.05, 0], [0, 1, 0.1])
                @ transform().scale([0.35, 0.35, 1]),
                "emitter": {"type": "area", "radiance": _rgb(light.radiance)},
            },
        }
        for thing in things:
            description[thing.name] = self._mesh(
                thing.name, thing.shape, self._surface(thing.material)
            )
        for name, (shape, colours) in arms.items():
            material = {"type": "mesh_attribute", "name": "vertex_color"}
            mesh = self._mesh(name, shape, _principled(material, 0.42, 0.42))
            mesh.add_attribute("vertex_color", 3, colours.astype(np.float32).ravel())
            description[name] = mesh
        self._scene = mi.load_dict(description)
        self._parameters = mi.traverse(self._scene)
        self._light = mi.load_dict({"type": "path", "max_depth": 4})
        self._guide = mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})

    def move(self, name: str, shape: Shape) -> None:
        """Give a thing or an arm a new surface with the same triangles."""
        self._parameters[f"{name}.vertex_positions"] = shape.vertices.astype(np.float32).ravel()
        self._parameters[f"{name}.vertex_normals"] = shape.normals.astype(np.float32).ravel()

    def picture(self, samples: int, seed: int) -> np.ndarray:
        """Render what the camera sees.

        Args:
            samples: light paths a pixel, rounded to a multiple of ``PASS_SAMPLES``.
            seed: the same seed gives the same noise.

        Returns:
            (HEIGHT, WIDTH, 3) uint8, sRGB.
        """
        self._parameters.update()
        passes = max(1, round(samples / PASS_SAMPLES))
        seeds = range(seed * MOST_PASSES, seed * MOST_PASSES + passes)
        light = np.mean([self._render(self._light, number) for number in seeds], axis=0)
        guide = self._render(self._guide, seed)
        return to_srgb(denoise(light, guide[..., :3], guide[..., 3:6]))

    def _render(self, integrator: Any, seed: int) -> np.ndarray:
        picture = self._mi.render(self._scene, integrator=integrator, spp=PASS_SAMPLES, seed=seed)
        return np.array(picture)

    def _surface(self, material: Material) -> dict[str, Any]:
        colour = np.asarray(material.colour, dtype=np.float32)
        if colour.ndim == 1:
            return _principled(_rgb(colour), material.roughness, material.specular)
        texture = {"type": "bitmap", "bitmap": self._mi.Bitmap(colour), "raw": True}
        return _principled(texture, material.roughness, material.specular)

    def _mesh(self, name: str, shape: Shape, surface: dict[str, Any]) -> Any:
        mi = self._mi
        properties = mi.Properties()
        properties["mesh_bsdf"] = mi.load_dict(surface)
        mesh = mi.Mesh(
            name,
            len(shape.vertices),
            len(shape.triangles),
            props=properties,
            has_vertex_normals=True,
            has_vertex_texcoords=True,
        )
        parameters = mi.traverse(mesh)
        parameters["vertex_positions"] = shape.vertices.astype(np.float32).ravel()
        parameters["vertex_normals"] = shape.normals.astype(np.float32).ravel()
        parameters["vertex_texcoords"] = shape.uv.astype(np.float32).ravel()
        parameters["faces"] = shape.triangles.astype(np.uint32).ravel()
        parameters.update()
        return mesh


def denoise(light: np.ndarray, albedo: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Smooth the lighting of a picture and leave its textures sharp.

    The picture is divided by the surfaces' own colour, what is left is smoothed along equal
    orientation and colour, and the colour is put back.

    Args:
        light: (H, W, 3) linear RGB, noisy.
        albedo: (H, W, 3) colour of the surfaces in [0, 1].
        normal: (H, W, 3) their unit normals.

    Returns:
        (H, W, 3) float32 linear RGB.
    """
    colour = np.maximum(albedo, 0.02).astype(np.float32)
    irradiance = np.clip(light / colour, 0, 12).astype(np.float32)
    guide = (0.5 + 0.5 * normal + 0.15 * albedo).astype(np.float32)
    compressed = np.log1p(irradiance)
    smooth = cv2.ximgproc.jointBilateralFilter(guide, compressed, 9, 0.06, 2.0)
    return np.expm1(smooth) * colour


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Turn linear RGB into uint8 sRGB; bright lights roll off softly."""
    bright = np.maximum(linear - 0.7, 0)
    rolled = np.minimum(linear, 0.7) + 0.3 * (1 - np.exp(-bright / 0.3))
    clipped = np.clip(rolled, 0, 1)
    curve = np.where(clipped < 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return (curve * 255 + 0.5).astype(np.uint8)


def _principled(colour: dict[str, Any], roughness: float, specular: float) -> dict[str, Any]:
    return {
        "type": "twosided",
        "bsdf": {
            "type": "principled",
            "base_color": colour,
            "roughness": roughness,
            "specular": specular,
        },
    }


def _rgb(colour: Iterable[float]) -> dict[str, Any]:
    return {"type": "rgb", "value": [float(value) for value in colour]}
