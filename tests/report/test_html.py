"""The report: self-contained, safe against what names may hold, honest about the threshold."""

import base64
import dataclasses
import errno
import re
import tracemalloc
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from anogan.calibration import HELD_OUT
from anogan.errors import DataError, ImageError, StorageError
from anogan.inspection import Inspection, Verdict, decide
from anogan.report import html
from anogan.report._page import write_page
from anogan.report._words import at_most, flat, percent, promise
from anogan.report.html import write_report

THRESHOLD, REVIEW = 4.0, 3.0
EVALUATION = {
    "image_auroc": 0.9713,
    "image_aupr": None,
    "false_reject_rate": 0.0066,
    "threshold": THRESHOLD,
    "n_good": 151,
    "n_defect": 62,
    "n_masked": 62,
    "per_kind": {
        "easy": {"n": 8, "image_auroc": 1.0, "detection_rate": 1.0},
        "hard": {"n": 9, "image_auroc": 0.7, "detection_rate": 0.33},
    },
    "intervals": {"image_auroc": [0.951, 0.987]},
}
CALIBRATION = {
    "threshold": THRESHOLD,
    "review_threshold": REVIEW,
    "false_reject": 0.005,
    "interval": (0.0003, 0.0121),
    "n_good": 240,
    "warning": None,
}


class _Page(HTMLParser):
    """Tags with attributes, and the text outside of style and script."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.cards, self._inside = [], [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "article":
            self.cards.append(dict(attrs))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def _inspection(score, name="a.png", size=(24, 32)):
    return Inspection(
        score=score,
        threshold=THRESHOLD,
        verdict=decide(score, THRESHOLD, REVIEW),
        residual_score=0.1,
        discrimination_score=0.2,
        anomaly_score=0.11,
        steps_used=20,
        brightness=0.4,
        ms=12.0,
        anomaly_map=np.full(size, score, np.float32),
        reconstruction=np.full((*size, 3), 90, np.uint8),
        path=Path("test") / "scratch" / name,
    )


def _picture(inspection):
    return np.full((*inspection.anomaly_map.shape, 3), (200, 40, 40), np.uint8)


def _report(path, inspections, **settings):
    settings = {"title": "bolt-3", "images": _picture, "calibrated_on": HELD_OUT} | settings
    assert write_report(path, inspections=inspections, **settings) == path
    return path.read_text("utf-8")


def _pictures(page):
    uris = [attrs["src"] for attrs in page.all("img")]
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
        for uri in uris
    ]


def test_the_worst_image_comes_first_and_one_without_a_score_before_all(tmp_path):
    scores = {"b.png": 2.0, "c.png": 9.0, "unscored.png": float("nan"), "d.png": 3.5}
    page = _Page(_report(tmp_path / "r.html", [_inspection(s, n) for n, s in scores.items()]))
    assert [card["data-name"] for card in page.cards] == [
        f"scratch/{name}" for name in ("unscored.png", "c.png", "d.png", "b.png")
    ]
    assert [card["data-verdict"] for card in page.cards] == ["review", "reject", "review", "pass"]


def test_every_picture_is_inside_the_file_and_decodes(tmp_path):
    figure = cv2.imencode(".png", np.zeros((50, 60, 3), np.uint8))[1].tobytes()
    source = _report(tmp_path / "r.html", [_inspection(5.0)], figures={"Scores": figure})
    plot, image, reconstruction, heatmap = _pictures(_Page(source))
    assert plot.shape == (50, 60, 3)
    assert image.shape == reconstruction.shape == heatmap.shape
    assert np.abs(image[5, 5].astype(int) - (40, 40, 200)).max() < 8  # OpenCV decodes to BGR.


def test_the_file_asks_nothing_of_the_network_and_runs_only_its_own_script(tmp_path):
    source = _report(tmp_path / "r.html", [_inspection(5.0)], evaluation=EVALUATION)
    page = _Page(source)
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?:|@import|url\(", source)
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


HOSTILE = '<script>alert("1")</script>&\'.png'


def test_nothing_that_comes_from_outside_becomes_markup(tmp_path):
    evaluation = EVALUATION | {"per_kind": {HOSTILE: {"n": 1, "detection_rate": 1.0}}}

    def images(inspection):
        raise ImageError(f"{HOSTILE} cannot be read.")

    source = _report(
        tmp_path / "r.html",
        [_inspection(5.0, HOSTILE.replace("/", "_"))],
        title=HOSTILE,
        images=images,
        evaluation=evaluation,
        calibration=CALIBRATION | {"warning": HOSTILE},
        errors={HOSTILE: HOSTILE},
        figures={HOSTILE: b"\x89PNG"},
        config={HOSTILE: HOSTILE},
    )
    page = _Page(source)
    assert len(page.all("script")) == 1
    assert page.text.count(HOSTILE) >= 8
    assert any(card["data-name"].startswith("scratch/<script>") for card in page.cards)


def test_names_in_chinese_and_names_that_are_no_unicode_are_written(tmp_path):
    inspections = [_inspection(5.0, "短路 1.png"), _inspection(6.0, "broken\udcff.png")]
    text = _Page(_report(tmp_path / "检查 报告.html", inspections)).text
    assert "短路 1.png" in text
    assert "broken?.png" in text


def test_a_threshold_set_on_anything_but_good_held_out_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="calibrated on test images, expected held-out good images"):
        _report(tmp_path / "r.html", [], calibrated_on="test images")
    assert list(tmp_path.iterdir()) == []


def test_the_promise_is_written_in_words_with_its_interval_and_warning(tmp_path):
    calibration = CALIBRATION | {"warning": "Add 78 good images."}
    text = _Page(_report(tmp_path / "r.html", [], calibration=calibration)).text
    assert "at most 0.5 % of good parts are rejected" in text
    assert "240 held-out good images" in text
    assert "between 0.03 % and 1.2 %" in text
    assert "Add 78 good images." in text


def test_a_promise_says_how_many_images_trained_the_networks():
    words = " ".join(promise(CALIBRATION | {"n_trained": 200}))
    assert (
        "240 good images, 40 of them held out and 200 that the networks learned from, which score like these;"
        in words
    )
    assert "never trained on" not in words
    assert "held-out ones alone" not in words


def test_a_promise_on_training_images_says_what_held_out_ones_say_alone():
    alone = {"n": 40, "above": 1, "interval": (0.00063, 0.1316)}
    words = " ".join(promise(CALIBRATION | {"n_trained": 200, "held_out": alone}))
    assert (
        "The 40 held-out ones alone, 1 of them above the threshold, say: between 0.063 % and 13.2 %" in words
    )


def test_a_promise_says_only_what_is_known():
    assert promise({"threshold": 4.0}) == ["Parts with a score above 4 are rejected."]
    assert len(promise(CALIBRATION | {"review_threshold": THRESHOLD})) == len(promise(CALIBRATION)) - 1


def test_counts_and_measures_stand_in_the_summary_and_missing_ones_do_not(tmp_path):
    inspections = [_inspection(score) for score in (1.0, 1.0, 3.5, 9.0)]
    text = _Page(_report(tmp_path / "r.html", inspections, evaluation=EVALUATION)).text
    assert "✓ Pass 2 ? Review 1 ✕ Reject 1 Image AUROC 0.971 95 %: 0.951 to 0.987" in text
    assert "Good parts rejected 0.66 %" in text
    assert "151 good and 62 defective" in text
    assert "Image AUPR" not in text


def test_the_hardest_kind_of_defect_comes_first(tmp_path):
    text = _Page(_report(tmp_path / "r.html", [], evaluation=EVALUATION)).text
    assert text.index("hard 9 33 %") < text.index("easy 8 100 %")


def test_a_picture_that_is_gone_is_told_and_the_others_are_shown(tmp_path):
    def images(inspection):
        if inspection.path.name == "gone.png":
            raise FileNotFoundError(errno.ENOENT, "No such file", "gone.png")
        return _picture(inspection)

    page = _Page(
        _report(tmp_path / "r.html", [_inspection(9.0, "gone.png"), _inspection(5.0)], images=images)
    )
    assert "No picture:" in page.text
    assert len(page.cards) == 2
    assert len(page.all("img")) == 3


def test_with_too_many_images_the_worst_and_the_borderline_are_shown_and_all_are_listed(tmp_path):
    inspections = [_inspection(float(score), f"{score:03d}.png") for score in range(100)]
    page = _Page(_report(tmp_path / "r.html", inspections, max_images=8))
    shown = [int(card["data-name"][8:11]) for card in page.cards]
    assert shown == [99, 98, 97, 96, 95, 94, 5, 4]
    assert "8 of 100 images are shown" in page.text
    assert all(f"{score:03d}.png" in page.text for score in range(100))


def test_ground_truth_is_drawn_only_where_there_is_some(tmp_path):
    mask = np.zeros((24, 32), bool)
    mask[8:16, 8:16] = True
    calm = dataclasses.replace(_inspection(1.0), anomaly_map=np.zeros((24, 32), np.float32))
    known, unknown = (
        _pictures(_Page(_report(tmp_path / f"{i}.html", [calm], masks=lambda *_, given=given: given)))
        for i, given in enumerate((mask, None))
    )
    assert np.abs(known[0].astype(int) - unknown[0]).max() > 100
    assert np.abs(known[2].astype(int) - unknown[2]).max() > 100


def test_settings_are_listed_by_their_dotted_names(tmp_path):
    config = {"search": {"steps": 20, "lambda": 0.1}, "images": {"size": None}, "kinds": ["a", "b"]}
    assert dict(flat(config))["images.size"] == "null"
    text = _Page(_report(tmp_path / "r.html", [], config=config)).text
    assert "search.lambda 0.1" in text
    assert "kinds a, b" in text


def test_a_report_without_any_image_says_so(tmp_path):
    source = _report(tmp_path / "deep" / "er" / "r.html", [], errors={"a.png": "a.png is empty."})
    assert "No image was scored." in _Page(source).text
    assert "a.png is empty." in source


def test_a_full_disk_leaves_the_earlier_report_and_no_half_one(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    before = _report(path, [_inspection(5.0)])

    def chunks():
        yield "<html>"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"r\.html cannot be written \(No space left on device\)"):
        write_page(path, chunks())
    assert path.read_text("utf-8") == before
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]


def test_a_path_that_cannot_be_a_file_is_one_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        _report(tmp_path / "folder", [])
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        _report(tmp_path / "file" / "r.html", [])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    def peak(n):
        noise = np.random.default_rng(0)
        one = _inspection(5.0, size=(300, 400))

        def images(_):
            return noise.integers(0, 255, (300, 400, 3), dtype=np.uint8)

        tracemalloc.start()
        _report_only(tmp_path / f"{n}.html", [one] * n, images)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(12) < 1.3 * peak(3)


def _report_only(path, inspections, images):
    write_report(path, title="t", inspections=inspections, images=images, calibrated_on=HELD_OUT)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.005, "0.5 %"),
        (0.00083, "0.083 %"),
        (0.0121, "1.2 %"),
        (1, "100 %"),
        (1e-7, "below 0.001 %"),
    ],
)
def test_a_percentage_keeps_the_digits_that_count(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.005, "0.5 %"), (1 / 81, "1.24 %"), (1 / 3, "33.4 %"), (0.1, "10 %"), (0, "0 %")]
)
def test_a_promised_rate_is_never_printed_smaller_than_it_is(share, text):
    assert at_most(share) == text


def test_every_verdict_has_its_tile():
    assert [name for name, _ in html._counts([])] == [str(verdict) for verdict in Verdict]


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        ({"in_distribution": False}, "unlike all good images"),
        ({"registered": False}, "laid over the reference"),
    ],
)
def test_a_card_says_why_the_score_is_not_to_be_relied_on(doubt, words, tmp_path):
    plain = _inspection(1.0)

    assert words in _report(tmp_path / "r.html", [dataclasses.replace(plain, **doubt)])
    assert words not in _report(tmp_path / "s.html", [plain])
