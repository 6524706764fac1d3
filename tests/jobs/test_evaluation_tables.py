"""What a reader finds in table.md and table.csv."""

import csv
import json
import math

import pytest

from handi_model.metrics.intervals import Estimate
from jobs.evaluation.paper import published, published_costs
from jobs.evaluation.result import Result
from jobs.evaluation.tables import as_csv, cell, markdown, notes
from pipelines.evaluation.columns import COLUMNS, PAPER
from pipelines.evaluation.networks import Origins
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.table import Efficiency

BY_KEY = {column.key: column for column in COLUMNS}
WHOLE = {column.key: Estimate(0.5, 0.25, 0.75, 4) for column in COLUMNS}
LACKING = {
    key: Estimate(math.nan, math.nan, math.nan, 0) if key == "hs_err" else one
    for key, one in WHOLE.items()
    if key not in ("egovlp", "blip")
}


@pytest.fixture
def result() -> Result:
    return Result(
        clips={"epic-kitchens": 4, "motion-intensive": 1},
        estimates={
            "epic-kitchens": {"ours": WHOLE, "baseline, large": LACKING},
            "motion-intensive": {"ours": WHOLE, "baseline, large": {}},
        },
        efficiency={
            "ours": Efficiency(6_300_000, 2.5, 0.75, "a core, float32", 4, 16, 64, 64),
            "baseline, large": Efficiency(7, 9.0, 1.0, "a core, float32", 4, 49, 480, 720),
        },
        measured={
            "epic-kitchens": {"ours": 4, "baseline, large": 4},
            "motion-intensive": {"ours": 1, "baseline, large": 0},
        },
        trained_on={"ours": 3, "baseline, large": None},
        whole="ours",
        changes={
            "epic-kitchens": {
                "plain": {
                    "fvd": Estimate(-0.12, -0.3, 0.04, 4),
                    "hs_err": Estimate(math.nan, math.nan, math.nan, 0),
                }
            },
            "motion-intensive": {},
        },
        without={"plain": "mask"},
        frames=16,
        side=64,
        origins=Origins({"clip": "CLIP, its hash"}, {"i3d": "I3D: no weights"}, "0"),
        problems=["ours: a clip: it is damaged"],
        settings={"seed": 0},
    )


def rows_of(text: str, method: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {method} |")]
    return [[part.strip() for part in line.strip("|").split("|")] for line in lines]


def test_each_subset_has_the_papers_columns_with_intervals(result):
    text = markdown(result)
    assert "## epic-kitchens, 4 clips" in text and "## motion-intensive, 1 clip" in text
    header = next(line for line in text.splitlines() if line.startswith("|  | HS-Err"))
    assert [part.split()[0] for part in header.strip("| ").split(" | ")] == [
        column.title for column in PAPER
    ]
    first = rows_of(text, "ours")[0]
    assert first[1] == "0.50000 (0.25000 to 0.75000)"


def test_what_is_not_there_is_a_dash(result):
    (first, *_) = rows_of(markdown(result), "baseline, large")
    assert first[1] == "–" and first[5] == "–"
    assert cell(BY_KEY["fid"], None) == "–"
    assert cell(BY_KEY["fid"], Estimate(3.14159, math.nan, math.nan, 1)) == "3.14"


def test_the_papers_numbers_stand_apart_and_say_whose_they_are(result):
    text = markdown(result)
    assert text.count("Not measured here: the paper's own numbers") == 2
    assert text.count("Table 2 of Li, Cao and Corso") == 2
    assert rows_of(text, "LFDM")[0][1:4] == ["0.01987", "39.37", "0.9241"]
    # Each subset has its own.
    assert rows_of(text, "LFDM")[1][1] == "0.02053"
    folder = {"folder": result.estimates["epic-kitchens"]}
    counts = {"folder": result.measured["epic-kitchens"]}
    changed = {"estimates": folder, "measured": counts, "clips": {"folder": 4}}
    other = Result(**{**vars(result), **changed})
    assert "Not measured here: the paper's own numbers" not in markdown(other)


def test_published_numbers_have_every_column_of_the_paper():
    counts = {}
    for subsets in (["epic-kitchens", "motion-intensive"], ["ego4d", "folder"]):
        for name, rows in published(subsets).items():
            counts[name] = len(rows)
            for row in rows:
                assert set(row.figures) == {column.key for column in PAPER}
    assert counts == {"epic-kitchens": 8 + 5, "motion-intensive": 5, "ego4d": 8}


def test_all_methods_of_the_papers_tables_stand_beside_ours(result):
    methods = ["LFDM", "AnimateAnything", "AVDC", "PIA", "Open-Sora", "DynamiCrafter", "CogVideoX"]
    methods.append("the paper's method")
    own = published(["epic-kitchens"])["epic-kitchens"]
    assert [row.method for row in own if row.source == "table-2"] == methods
    assert [row.method for row in published(["ego4d"])["ego4d"]] == methods
    assert [row.method for row in published_costs()] == methods
    text = markdown(result)
    assert rows_of(text, "CogVideoX")[0][1:5] == ["0.01981", "127.51", "0.9362", "121.06"]
    assert rows_of(text, "DynamiCrafter")[1][1:] == ["1,876 M", "–", "9.32"]


def test_a_figure_that_is_printed_in_percent_by_mistake_is_a_share_and_marked(result):
    text = markdown(result)
    assert rows_of(text, "Open-Sora *")[0][3] == "0.9382"
    assert "* Open-Sora: CLIP_GT is printed as 93.823, evidently in percent" in text


def test_motion_intensive_clips_of_the_paper_are_of_epic_kitchens_alone():
    assert set(published(["ego4d", "motion-intensive"])) == {"ego4d"}
    both = ["epic-kitchens", "ego4d", "all", "motion-intensive"]
    assert set(published(both)) == {"epic-kitchens", "ego4d"}


def test_relative_changes_stand_beside_what_the_paper_claims(result):
    text = markdown(result)
    assert text.count("### Relative changes") == 1, "where no run without a part was measured, none"
    assert "| without mask: plain | the paper claims |" in text
    part = text.split("### Relative changes")[1]
    assert rows_of(part, "FVD")[0][1:] == ["-12 % (-30 to +4)", "-18 %"]
    assert rows_of(part, "HS-Err")[0][1:] == ["–", "-28 %"]
    assert rows_of(part, "change outside")[0][1:] == ["–", "-34 %"]
    assert rows_of(part, "FVD in the area")[0][1:] == ["–", "-41 %"]
    rows = list(csv.DictReader(as_csv(result).decode().splitlines()))
    found = [row for row in rows if row["metric"] == "relative_change/fvd"]
    assert [(row["source"], row["method"], row["value"]) for row in found] == [
        ("measured", "plain", "-0.12"),
        ("paper", "", "-0.18"),
    ]
    assert result.numbers()["epic-kitchens/plain/relative_change/fvd"] == -0.12


def test_the_head_says_whose_model_was_trained_on_these_clips(result):
    head = markdown(result).split("## epic-kitchens")[0]
    assert "**Trained on clips of these tables: ours, on 3 of 4 clips." in head
    assert "Not known whether trained on these clips: baseline, large." in head
    clean = Result(**{**vars(result), "trained_on": {"ours": 0}})
    head = markdown(clean).split("## epic-kitchens")[0]
    assert "Trained on none of these clips: ours." in head
    assert "**" not in head and "Not known" not in head


def test_a_bar_in_a_name_does_not_break_the_table(result):
    estimates = {"epic-kitchens": {"a|b": WHOLE}}
    text = markdown(Result(**{**vars(result), "estimates": estimates}))
    assert "| a\\|b |" in text


def test_the_notes_say_what_is_missing_and_why(result):
    said = notes(result)
    assert "not measured: FVD, FVD in the area: I3D: no weights" in said
    assert "measured with CLIP, its hash" in said
    assert "left out: ours: a clip: it is damaged" in said
    assert "motion-intensive, baseline, large: 0 of 1 clip" in said
    assert any("FVD of 16 frames" in note and "64x64" in note for note in said)


def test_a_method_that_loses_the_hands_is_said_to_and_has_a_dash_where_it_loses_all(result):
    few = WHOLE | {"hs_err": Estimate(0.1, 0.1, 0.1, 1)}
    none = WHOLE | {"hs_err": Estimate(math.nan, math.nan, math.nan, 0)}
    methods = {"ours": WHOLE, "few": few, "none": none | {"recall": Estimate(0, 0, 0, 4)}}
    changed = {"estimates": {"epic-kitchens": methods}}
    text = markdown(Result(**{**vars(result), **changed}))
    assert "- epic-kitchens, few: HS-Err is of 1 of 4 clips with hands; in the others" in text
    assert "- epic-kitchens, none: HS-Err is of 0 of 4 clips with hands" in text
    assert "ours: HS-Err" not in text
    table_2, hands, *_ = rows_of(text, "none")
    assert table_2[1] == "–" and hands[1].startswith("0.000")


def test_the_efficiency_table_names_parameters_frames_seconds_and_memory(result):
    def cost_of(method: str) -> list[str]:
        (row,) = (row for row in rows_of(markdown(result), method) if row[1].endswith("M"))
        return row

    assert cost_of("ours") == [
        *("ours", "6.3 M", "16 at 64x64", "2.50", "0.75", "a core, float32", "4")
    ]
    assert cost_of("baseline, large")[2] == "49 at 480x720"
    assert cost_of("the paper's method")[1:] == ["3,674 M", "16", "8.64"]


def test_the_csv_tells_measured_from_published(result):
    rows = list(csv.DictReader(as_csv(result).decode().splitlines()))
    ours = [row for row in rows if row["method"] == "ours" and row["subset"] == "epic-kitchens"]
    assert {row["metric"] for row in ours} == set(BY_KEY)
    assert {row["source"] for row in ours} == {"measured"} and ours[0]["clips"] == "4"
    paper = [row for row in rows if row["source"] == "paper" and row["subset"] in result.clips]
    assert len(paper) == 8 * (13 + 5)
    blank = [row for row in rows if row["method"] == "baseline, large" and not row["value"]]
    assert [row["metric"] for row in blank] == ["hs_err"]


def test_the_csv_has_the_efficiency_table_too(result):
    rows = list(csv.DictReader(as_csv(result).decode().splitlines()))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["subset"] == "efficiency":
            kept = found.setdefault((row["source"], row["method"]), {})
            kept[row["metric"]] = float(row["value"])
            assert row["low"] == row["high"] == ""
            assert row["clips"] == ("4" if row["source"] == "measured" else "")
    cost = {"parameters": 6.3e6, "seconds": 2.5, "peak_memory_gb": 0.75}
    size = {"num_frames": 16, "height": 64, "width": 64}
    assert found["measured", "ours"] == cost | size
    own = {"parameters": 3.674e9, "seconds": 8.64, "num_frames": 16}
    assert found["paper", "the paper's method"] == pytest.approx(own)
    assert found["paper", "AVDC"] == pytest.approx({"parameters": 0.229e9, "seconds": 66.23})
    nothing_made = Result(**{**vars(result), "efficiency": {}})
    assert b"efficiency" not in as_csv(nothing_made)


def test_metrics_json_is_json_and_mlflow_gets_finite_numbers(result):
    found = json.loads(result.as_json())
    assert found["protocol"] == PROTOCOL and found["confidence"] == 0.95
    assert found["estimates"]["epic-kitchens"]["baseline, large"]["hs_err"]["value"] is None
    numbers = result.numbers()
    assert numbers["epic-kitchens/ours/fid"] == 0.5
    assert numbers["efficiency/ours/seconds"] == 2.5
    assert numbers["efficiency/baseline-large/num_frames"] == 49
    assert "epic-kitchens/baseline-large/hs_err" not in numbers
    assert all(math.isfinite(number) for number in numbers.values())
