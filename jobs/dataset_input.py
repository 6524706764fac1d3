"""A data set as MLflow knows data sets: an input of the runs that learn from or measure with it."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import pyarrow as pa
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from jobs.tracking import place
from pipelines.clip_index import ClipIndex
from pipelines.prior import UNNAMED
from pipelines.records import WRITTEN

TYPES = {
    pa.string(): DataType.string,
    pa.binary(): DataType.binary,
    pa.bool_(): DataType.boolean,
    pa.int32(): DataType.integer,
    pa.int64(): DataType.long,
    pa.float32(): DataType.float,
    pa.float64(): DataType.double,
}


def dataset_input(index: ClipIndex, context: str, **counts: int) -> DatasetInput:
    """A preprocessed data set as an input of a run; `mlflow.data.get_source` gives its URL back.

    Args:
        context: what the run uses it for: `training` or `evaluation`.
        counts: of clips, by what becomes of them.
    """
    scheme = index.data.partition("://")[0] if "://" in index.data else "file"
    profile = {
        "clips": len(index.clip_ids),
        **counts,
        "splits": dict(sorted(Counter(split or UNNAMED for split in index.splits).items())),
        "num_frames": index.num_frames,
        "height": index.height,
        "width": index.width,
    }
    dataset = Dataset(
        name=place(index.data),
        digest=index.fingerprint,
        source_type="local" if scheme == "file" else scheme,
        source=json.dumps({"uri": index.data}),
        schema=_schema(),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


@cache
def _schema() -> str:
    schema = Schema([ColSpec(_type(field.type), field.name) for field in WRITTEN])
    return json.dumps({"mlflow_colspec": schema.to_dict()})


def _type(kind: pa.DataType) -> DataType | Array:
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return Array(_type(kind.value_type)) if lists else TYPES[kind]
