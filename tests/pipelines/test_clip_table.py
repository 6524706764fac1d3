import pytest

from pipelines.annotations import AnnotationsError
from pipelines.clip_table import read_clip_table
from pipelines.rendered import CLIPS
from pipelines.settings import PreprocessSettings


def read(**keys):
    return read_clip_table(PreprocessSettings(videos=str(CLIPS), output="out", **keys))


def test_one_collection_as_a_folder_and_as_epic_annotations_gives_the_same_actions():
    epic = str(CLIPS / "EPIC_100_rendered.csv")
    as_folder = read()
    as_epic = read(source="epic-kitchens", annotations=epic)
    assert not as_folder.problems and not as_epic.problems
    assert len(as_folder.clips) == len(as_epic.clips)
    said = {(clip.video_uri, clip.narration, clip.verb) for clip in as_folder.clips}
    assert said == {(clip.video_uri, clip.narration, clip.verb) for clip in as_epic.clips}


def test_the_selection_keys_narrow_the_table_down():
    assert {clip.verb for clip in read(verb=["stir"]).clips} == {"stir"}
    assert len(read(limit=3).clips) == 3


def test_a_selection_that_leaves_nothing_is_one_line_that_names_the_keys():
    with pytest.raises(AnnotationsError, match="leaves none of") as error:
        read(verb=["fry"])
    assert "--verb" in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_videos_is_one_line_that_names_it(tmp_path):
    settings = PreprocessSettings(videos=str(tmp_path), output="out")
    with pytest.raises(AnnotationsError) as error:
        read_clip_table(settings)
    assert str(tmp_path) in str(error.value)


def test_why_there_is_no_clip_at_all_is_one_line_that_names_the_file_and_what_was_meant(tmp_path):
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"video": "a.mp4", "text": "cut"}\n')
    keys = {"videos": str(tmp_path), "output": "out"}
    with pytest.raises(AnnotationsError) as error:
        read_clip_table(PreprocessSettings(**keys))
    assert "1 malformed rows; the first of them: captions.jsonl:1: narration is" in str(error.value)
    assert "did you mean narration?" in str(error.value) and "\n" not in str(error.value)

    header = tmp_path / "header.csv"
    header.write_text("video,narration\n")
    with pytest.raises(AnnotationsError, match=r"header\.csv: none of its rows gives one"):
        read_clip_table(PreprocessSettings(annotations=str(header), **keys))
