"""What a client may ask for, field by field."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.datastructures import UploadFile as Upload

from serve.http.bodies import FIELDS_BYTES, MEDIA_TYPES, WRAPPERS
from serve.http.references import is_data_url

PICTURE = "JPEG, PNG or WebP; scaled down, and its middle cut to the clip's size"


def _blank_is_absent(value: object) -> object:
    """Browsers and clients send an unfilled field as an empty text."""
    return None if value == "" else value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("neither true nor false; send a number")
    return _blank_is_absent(value)


def _picture(value: object) -> object:
    """A file, or the text of a URL, out of the shapes that clients send it in."""
    if isinstance(value, dict):
        if "file_id" in value:
            raise ValueError("file_id: no files are kept here; send the picture itself")
        if value.keys() != {"image_url"}:
            raise ValueError('an object has one key, {"image_url": ...}')
        value = value["image_url"]
    if not isinstance(value, (str, Upload)):
        raise ValueError("no picture; send a file, a data URL, or a URL of an allowed host")
    if isinstance(value, str) and len(value) > FIELDS_BYTES and not is_data_url(value):
        raise ValueError(f"a URL has at most {FIELDS_BYTES} characters")
    return value


def _one(count: int | None) -> int | None:
    if count not in (None, 1):
        raise ValueError(f"{count} clips; a request makes one, so send one for each")
    return count


def _with_wrappers(schema: dict[str, Any]) -> None:
    also = {"type": "object", "description": "Fields in it count as those beside it."}
    schema["properties"] |= dict.fromkeys(WRAPPERS, also)


Blank = BeforeValidator(_blank_is_absent)
Number = BeforeValidator(_number)
Picture = Annotated[
    UploadFile | str,
    BeforeValidator(_picture),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "contentMediaType": "application/octet-stream"},
                {"type": "string", "format": "uri"},
                {
                    "type": "object",
                    "properties": {"image_url": {"type": "string", "format": "uri"}},
                    "required": ["image_url"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class MaskForm(BaseModel):
    """What both stages need."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_with_wrappers)

    prompt: str = Field(
        max_length=FIELDS_BYTES, description="What the hands should do, such as 'open the drawer'."
    )
    input_reference: Picture = Field(
        description=f"The scene: {PICTURE}. A file, a data URL, or a URL, where the service allows "
        'its host; the latter two also as {"image_url": ...}.'
    )
    model: Annotated[str | None, Blank] = Field(
        None, max_length=FIELDS_BYTES, description="Its id in /v1/models."
    )
    negative_prompt: Annotated[str | None, Blank] = Field(
        None, max_length=FIELDS_BYTES, description="What guidance moves away from."
    )
    size: Annotated[str | None, Blank] = Field(
        None,
        max_length=11,
        pattern=r"^[0-9]{1,5}x[0-9]{1,5}$",
        description="Width x height, pixels, such as 256x256.",
    )
    width: Annotated[int | None, Number] = Field(
        None, ge=1, le=99999, description="Pixels; with `height` instead of `size`."
    )
    height: Annotated[int | None, Number] = Field(
        None, ge=1, le=99999, description="Pixels; with `width` instead of `size`."
    )
    seconds: Annotated[float | None, Number] = Field(
        None, gt=0, le=3600, description="Of the clip."
    )
    num_frames: Annotated[int | None, Number] = Field(
        None, ge=1, description="Of the clip; instead of `seconds`."
    )
    fps: Annotated[float | None, Number] = Field(
        None, ge=1, le=120, description="Frames a second that the clip is played at."
    )
    seed: Annotated[int | None, Number] = Field(
        None, ge=0, lt=2**63, description="Of the noise; drawn by default."
    )
    guidance_scale: Annotated[float | None, Number] = Field(
        None, ge=1, le=100, description="Classifier-free guidance, from 1 (none)."
    )
    mask_steps: Annotated[int | None, Number] = Field(
        None, ge=1, description="Denoising steps of the motion area."
    )
    n: Annotated[int | None, Number, AfterValidator(_one)] = Field(
        None, description="1, if given: a request makes one clip."
    )
    user: Annotated[str | None, Blank] = Field(
        None, max_length=512, description="The client's own; it is taken, and not kept."
    )


class VideoForm(MaskForm):
    """What a clip needs."""

    num_inference_steps: Annotated[int | None, Number] = Field(
        None, ge=1, description="Denoising steps of the clip."
    )
    mask: Annotated[Picture | None, Blank] = Field(
        None, description="The motion area, white inside, drawn over the scene: skips stage 1."
    )


FORMS = (MaskForm, VideoForm)


def documented_body(form: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads this form, which stands among the schemas."""
    schema = {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(MEDIA_TYPES, schema)}}
