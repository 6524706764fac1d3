import hashlib
import logging
from pathlib import Path

import pooch
import pytest

from handi_model.metrics.weights import Origin, Weights, WeightsError, find_weights

PUBLISHED = b"the published weights"
SHA256 = hashlib.sha256(PUBLISHED).hexdigest()
WEIGHTS = Weights("Some Net", "net.pt", "https://example.invalid/net.pt", SHA256, "net")
UNCHECKED = Weights("Some Net", "net.pt", "https://example.invalid/net.pt", None, "net")


@pytest.fixture
def internet(monkeypatch):
    """Stand-in for the official places: address -> what it sends; the others do not answer."""
    places: dict[str, bytes] = {}

    class Downloader:
        def __init__(self, timeout):
            assert timeout == 20

        def __call__(self, url, output_file, pooch):
            if url not in places:
                raise OSError("no network\nat all")
            Path(output_file).write_bytes(places[url])

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return places


@pytest.mark.parametrize(("content", "reference"), [(PUBLISHED, True), (b"others", False)])
def test_a_named_file_is_used_whatever_it_holds(content, reference, tmp_path, internet):
    mine = tmp_path / "mine.pt"
    mine.write_bytes(content)
    path, origin = find_weights(WEIGHTS, str(mine), cache=tmp_path)
    digest = hashlib.sha256(content).hexdigest()
    assert path == mine
    assert origin == Origin("Some Net", str(mine), digest, reference)


def test_a_named_file_that_is_missing_is_not_replaced_by_the_published_one(tmp_path, internet):
    (tmp_path / "net.pt").write_bytes(PUBLISHED)
    internet[WEIGHTS.url] = PUBLISHED
    with pytest.raises(WeightsError, match=r"gone\.pt: no such file \(--net\)"):
        find_weights(WEIGHTS, str(tmp_path / "gone.pt"), cache=tmp_path)


def test_the_cache_serves_without_any_network(tmp_path, internet):
    (tmp_path / "net.pt").write_bytes(PUBLISHED)
    path, origin = find_weights(WEIGHTS, cache=tmp_path)
    assert path == tmp_path / "net.pt"
    assert origin.reference


def test_the_cache_lies_where_the_environment_says(tmp_path, internet, monkeypatch):
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path))
    (tmp_path / "net.pt").write_bytes(PUBLISHED)
    assert find_weights(WEIGHTS)[0] == tmp_path / "net.pt"


@pytest.mark.parametrize("before", [None, b"half a file"])
def test_a_missing_or_damaged_cache_is_filled_from_the_official_place(before, tmp_path, internet):
    internet[WEIGHTS.url] = PUBLISHED
    if before:
        (tmp_path / "net.pt").write_bytes(before)
    path, origin = find_weights(WEIGHTS, cache=tmp_path)
    assert path.read_bytes() == PUBLISHED
    assert origin.reference


@pytest.mark.parametrize("before", [None, b"half a file"])
def test_a_download_with_other_contents_is_refused(before, tmp_path, internet):
    internet[WEIGHTS.url] = b"a sign-in page"
    if before:
        (tmp_path / "net.pt").write_bytes(before)
    with pytest.raises(WeightsError, match="SHA256"):
        find_weights(WEIGHTS, cache=tmp_path)


@pytest.mark.parametrize("before", [None, b"half a file"])
def test_when_nothing_works_one_line_says_what_was_tried_and_the_remedy(before, tmp_path, internet):
    if before:
        (tmp_path / "net.pt").write_bytes(before)
    with pytest.raises(WeightsError) as error:
        find_weights(WEIGHTS, cache=tmp_path)
    message = str(error.value)
    assert "\n" not in message
    fault = f"SHA-256 is not {SHA256}" if before else "no such file"
    for part in ("Some Net", "--net", str(tmp_path / "net.pt"), fault, WEIGHTS.url, "no network"):
        assert part in message


def test_without_a_published_sha256_the_download_is_kept_and_said_to_be_unchecked(
    tmp_path, internet, caplog
):
    internet[UNCHECKED.url] = b"anything"
    with caplog.at_level(logging.WARNING):
        path, origin = find_weights(UNCHECKED, cache=tmp_path)
    assert path.read_bytes() == b"anything"
    assert not origin.reference
    assert "unchecked" in caplog.text
    internet.clear()
    assert find_weights(UNCHECKED, cache=tmp_path) == (path, origin)


def test_a_footnote_gives_the_name_the_sha256_and_whether_it_is_the_reference():
    assert str(Origin("Net", "net.pt", "f58cb9b6" + 56 * "0", True)) == (
        "Net, SHA-256 f58cb9b6… (the reference's)"
    )
    assert str(Origin("Net", "net.pt", "ab12ab12" + 56 * "0", False)) == (
        "Net, SHA-256 ab12ab12… (not known as the reference's)"
    )
