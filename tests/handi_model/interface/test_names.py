"""A saved model is opened by those who only know diffusers."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import diffusers
import pytest
from diffusers import DiffusionPipeline

import handi_model
from handi_model import HandiPipeline, HandiUNet


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny.save_pretrained(folder)
    return folder


def test_diffusers_finds_the_pipeline_once_the_package_is_imported(saved):
    opened = DiffusionPipeline.from_pretrained(saved)
    assert type(opened) is HandiPipeline
    assert type(opened.unet) is HandiUNet
    assert diffusers.HandiPipeline is HandiPipeline
    with pytest.raises(AttributeError):
        _ = diffusers.HandyPipeline


def test_a_folder_from_before_there_were_modules_in_it_is_opened_too(saved):
    for module in [*saved.glob("*.py"), *saved.glob("unet/*.py")]:
        module.unlink()
    for kind in (DiffusionPipeline, HandiPipeline):
        assert type(kind.from_pretrained(saved).unet) is HandiUNet


FRESH = """
    import shutil, sys
    from pathlib import Path
    from types import SimpleNamespace

    import diffusers
    from diffusers.pipelines import pipeline_utils
    from diffusers.utils import dynamic_modules_utils
    from huggingface_hub.utils import filter_repo_objects

    folder, local = Path(sys.argv[1]), Path(sys.argv[2])
    names = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]

    # A hub with one repository in it.
    def info(*_, **__):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n) for n in names], sha="1" * 40)

    def download(repo, name, *_, **__):
        return str(folder / name)

    def snapshot(repo, *, allow_patterns, ignore_patterns, **_):
        wanted = dict(allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        for name in filter_repo_objects(names, **wanted):
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, local / name)
        return str(local)

    for module in (pipeline_utils, dynamic_modules_utils):
        module.hf_hub_download, module.model_info = download, info
    pipeline_utils.snapshot_download = snapshot
    pipeline_utils._resolve_revision = lambda *_, **__: "main"

    def opened(place, **given):
        pipe = diffusers.DiffusionPipeline.from_pretrained(place, **given)
        return f"{type(pipe).__module__}.{type(pipe).__name__} {type(pipe.unet).__name__}"

    custom = {"custom_pipeline": "pipeline"}
    try:
        print(opened(folder, **custom))
    except ValueError as error:
        print("trust_remote_code=True" in str(error))
    assert "handi_model" not in sys.modules
    print(opened("somebody/model", **custom, trust_remote_code=True))
    print(opened(folder, **custom, trust_remote_code=True))
    # Now that it is imported.
    print(opened("somebody/model"), opened(folder), sep="\\n")
"""


def test_a_folder_and_a_hub_id_are_opened_with_trust_without_the_package_imported(tiny, tmp_path):
    folder = tmp_path / "model"
    tiny.save_pretrained(folder)
    source = str(Path(handi_model.__file__).parents[1])
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH), str(folder), str(tmp_path / "snapshot")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = "handi_model.pipeline.HandiPipeline HandiUNet"
    assert done.stdout.splitlines() == ["True", *[found] * 4]
