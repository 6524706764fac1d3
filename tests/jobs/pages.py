"""HTML pages as a reader gets them."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a reader gets: headings, pictures, videos, rows, and what a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.clips: list[str] = []
        self.images: list[dict] = []
        self.videos: list[dict] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.tags: set[str] = set()
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.tags.add(tag)
        given = dict(attrs)
        self.fetched += [given[name] for name in ("src", "href", "poster") if name in given]
        self.places.add(given.get("id", ""))
        if tag == "img":
            self.images.append(given)
        if tag == "video":
            self.videos.append(given)
        if tag == "h3" and given.get("id", "").startswith("clip-"):
            self._inside = "clip"

    def handle_data(self, data):
        if self._inside == "h2":
            self.headings.append(data.strip())
        if self._inside == "clip":
            self.clips.append(data.strip())
        self._inside = ""


def check_words_and_playing(page: Page) -> None:
    """Pictures and videos have words for who cannot see them, and videos play by themselves."""
    assert all(image["alt"] for image in page.images)
    for video in page.videos:
        assert video["aria-label"]
        assert {"loop", "muted", "autoplay", "playsinline", "controls"} <= set(video)
