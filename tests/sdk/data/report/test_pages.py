"""Reports are whole, closed in themselves, and say what there is, whatever the dataset says."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.data.checks import examine
from fla_sdk.data.report.check_page import summary, write_check_page
from fla_sdk.data.report.overview import Overview, duration, size
from fla_sdk.data.report.show_page import write_show_page
from fla_sdk.errors import ConfigError
from fla_sdk.testing import MemoryDataset

HOSTILE = 'put <script>alert("1")</script> & the cup'
ROBOT = fla.Embodiment(
    name="robot",
    state=fla.Space(fla.joints("shoulder", "elbow", limits=(-2, 2)), fla.gripper()),
    action=fla.Space(fla.joints("shoulder", "elbow", predict="relative", limits=(-2, 2)), fla.gripper()),
    cameras=(fla.Camera("top", slot="base_0_rgb"),),
    control_hz=10,
    prompt="robot: {task}",
    image_shape=(12, 16),
)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Refuses tags that are not closed; keeps the text, the tags and what they refer to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.points: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [tag] * (tag not in VOID)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.points += [value or "" for name, value in attrs if name == "points"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def dataset() -> MemoryDataset:
    made = MemoryDataset.of(ROBOT, lengths=(30, 20, 25))
    made._task = HOSTILE
    return made


def check_closed(page: Page) -> None:
    """Nothing is fetched, nothing runs, and every curve has a place."""
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "script" not in page.tags
    assert page.points
    assert all(re.fullmatch(r"(-?[\d.]+,-?[\d.]+ ?)+", points) for points in page.points)


def test_the_page_of_a_dataset(tmp_path: Path) -> None:
    overview = Overview(dataset(), ROBOT, format_name="memory")
    page = Page(write_show_page(tmp_path / "new" / "page.html", overview, overview.chosen(None)))
    check_closed(page)
    assert len(page.links) == 3 * 8
    for words in (
        HOSTILE,
        "Episode 0",
        "Episode 2",
        "shoulder (rad)",
        "gripper in open_fraction",
        f"Task: robot: {HOSTILE}",
    ):
        assert words in page.text, words


def test_the_page_of_a_check(tmp_path: Path) -> None:
    made = dataset()
    made.column("action")[40, 1] = 9.0
    examination = examine(made, ROBOT)
    (finding,) = examination.findings
    page = Page(write_check_page(tmp_path / "page.html", examination))
    check_closed(page)
    for words in ("1 error", finding.where, finding.seen, finding.expected, finding.advice, "observation.images.top"):
        assert words in page.text, words


@pytest.mark.parametrize("value", [0.25, np.nan])
def test_columns_that_cannot_be_drawn_do_no_harm(tmp_path: Path, value: float) -> None:
    made = dataset()
    made.column("observation.state")[:] = value
    overview = Overview(made, ROBOT)
    check_page = Page(write_check_page(tmp_path / "check.html", examine(made, ROBOT)))
    show_page = Page(write_show_page(tmp_path / "show.html", overview, overview.chosen(1)))
    assert "nan" not in "".join(check_page.points + show_page.points)


def test_an_empty_report_says_that_nothing_was_found(tmp_path: Path) -> None:
    assert summary(()) == "nothing found"
    assert "nothing found" in Page(write_check_page(tmp_path / "page.html", examine(dataset(), ROBOT, frames=0))).text


def test_an_overview_counts() -> None:
    made = dataset()
    made.damaged = {1: "missing file b"}
    overview = Overview(made, ROBOT)
    facts = dict(overview.facts())
    assert facts["episodes"] == "3, of 20 to 30 frames, median 25"
    assert facts["frames"] == "75 at 10 per second, 7.5 s"
    assert facts["damaged"] == "1 episodes; episode 1: missing file b"
    assert overview.tasks == {HOSTILE: 2}
    assert overview.chosen(None) == (0, 2)
    with pytest.raises(ConfigError, match="--episode 1 is damaged: missing file b"):
        overview.chosen(1)
    with pytest.raises(ConfigError, match="--episode 3: memory has episodes 0 to 2"):
        overview.chosen(3)


def test_units_of_time_and_size() -> None:
    assert [duration(s) for s in (8, 90, 7200)] == ["8.0 s", "1.5 min", "2.0 h"]
    assert [size(n) for n in (12, 1500, 2.5e9, 3e12)] == ["12 B", "1.5 kB", "2.5 GB", "3 TB"]
