import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from quality.clips import moving_picture, write_clip

from carfix.errors import CarfixError
from carfix.quality.compare import compare_videos
from carfix.quality.methods import Filtered
from carfix.quality.metrics import FrameQuality
from carfix.quality.reader import read_frames
from carfix.quality.report.page import write_report
from carfix.quality.report.pictures import moments, pictures
from carfix.quality.results import Comparison
from carfix.quality.spp import PostFilter

FRAMES = 40
NAME = "a <b>\"'&name.mp4"  # what a stranger's file may be called


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("report")
    planes = moving_picture(FRAMES, 160, 96)
    reference = write_clip(folder / "reference.mkv", planes, codec="ffv1")
    options = {"crf": "40", "bf": "2", "g": "12", "threads": "1"}
    camera = write_clip(folder / NAME, planes, options=options)
    return compare_videos(
        reference=reference, candidates=[camera], methods=[Filtered(PostFilter(quantizer=6))], vmaf=True
    )


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, comparison, ["psnr", "ssim", "vmaf"])
    return path


def page_data(page: Path) -> dict:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def decoded(uri: str) -> np.ndarray:
    with av.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_the_moments_are_the_worst_the_median_and_the_best_gain(comparison: Comparison) -> None:
    psnr = [result.quality.psnr for result in comparison.results]
    found = {
        label: moment.reference_index for moment in moments(comparison) for label in moment.label.split(", ")
    }
    assert set(found) == {"worst 1", "worst 2", "worst 3", "median", "best gain"}
    assert found["worst 1"] == np.argmin(psnr[1])
    assert found["best gain"] == np.argmax(psnr[1] - psnr[0])
    assert found["median"] == np.argsort(psnr[1])[FRAMES // 2]
    worst = sorted(found[f"worst {number}"] for number in (1, 2, 3))
    assert min(np.diff(worst)) >= FRAMES * 0.05


def test_a_single_candidate_of_one_frame_still_has_a_moment(comparison: Comparison) -> None:
    result = comparison.results[0]
    one = compare_videos(reference=comparison.reference.path, candidates=[result.candidate.path], frames=1)
    (moment,) = moments(one)
    assert (moment.label, moment.reference_index) == ("worst 1, median", 0)
    assert isinstance(one.results[0].quality, FrameQuality)


def test_pictures_are_the_frames_that_were_measured(comparison: Comparison, page: Path) -> None:
    data = page_data(page)
    reference = list(read_frames(comparison.reference.path))
    filtered = list(comparison.results[1].candidate.method.frames(comparison.results[1].candidate.path))
    assert len(data["moments"]) >= 3
    for moment in data["moments"]:
        number = data["frames"][moment["place"]]
        shown = [decoded(uri) for uri in moment["pictures"]]
        assert len(shown) == 3
        for picture, frame in ((shown[0], reference[number]), (shown[2], filtered[number])):
            assert frame.picture is not None
            expected = frame.picture.reformat(format="rgb24", src_colorspace="ITU601").to_ndarray(
                format="rgb24"
            )
            assert picture.shape == (96, 160, 3)
            assert np.array_equal(picture, expected)  # small enough to be lossless
        assert not np.array_equal(shown[1], shown[2])


def test_pictures_keep_to_their_budget(comparison: Comparison) -> None:
    shown = moments(comparison)
    free = pictures(comparison, shown)
    assert free.lossless
    size = sum(len(uri) for row in free.uris for uri in row) * 3 / 4
    tight = pictures(comparison, shown, budget=int(size / 3))
    assert not tight.lossless
    assert sum(len(uri) for row in tight.uris for uri in row) * 3 / 4 < size / 3


def test_curves_hold_every_frame(comparison: Comparison, page: Path) -> None:
    data = page_data(page)
    assert [metric["title"] for metric in data["metrics"]] == ["PSNR in dB", "SSIM", "VMAF"]
    assert data["names"] == [NAME, f"{NAME} + spp-qp6"]
    assert data["pictures"] == ["reference", *data["names"]]
    for result, curve in zip(comparison.results, data["metrics"][0]["curves"], strict=True):
        assert curve == pytest.approx(result.quality.psnr.tolist(), abs=1e-3)
    assert data["kinds"][0][0] == "I" and data["kinds"][1] == data["kinds"][0]
    assert data["quantizers"][1] == data["quantizers"][0] and data["quantizers"][0][0] > 10


def test_nothing_is_loaded_and_no_name_breaks_the_page(page: Path) -> None:
    text = page.read_text()
    body = re.sub(r"data:image/webp;base64,[\w+/=]+", "", text)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", body)
    assert "@import" not in body and "url(" not in body
    assert "<b>" not in body


def test_a_report_that_cannot_be_written_is_an_error(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match=r"cannot write .*missing"):
        write_report(tmp_path / "missing" / "report.html", comparison, ["psnr"])


@pytest.fixture(scope="module")
def browser() -> Iterator:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the Python package selenium")
    import shutil

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser, page: Path):  # noqa: ANN001, ANN201 - selenium's types only where it is installed
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get(page.as_uri())
    # The pictures are decoded before the stage has its shape.
    WebDriverWait(browser, 20).until(
        lambda driver: driver.execute_script(
            "return document.querySelectorAll('.u-over').length === 2"
            " && document.getElementById('stage').style.aspectRatio !== ''"
        )
    )
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []


def script(browser, text: str):  # noqa: ANN001, ANN201
    return browser.execute_script(f"return {text}")


def test_browser_sees_pictures_and_asks_the_network_for_nothing(opened, page: Path) -> None:  # noqa: ANN001
    sizes = script(opened, "[...document.querySelectorAll('#stage img')].map((i) => i.naturalWidth)")
    assert sizes == [160, 160]
    requests = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = {
        message["params"]["request"]["url"].split(":")[0]
        for message in requests
        if message["method"] == "Network.requestWillBeSent"
    }
    assert "file" in urls and urls <= {"file", "data"}


def test_dragging_the_slider_moves_the_border(opened) -> None:  # noqa: ANN001
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    stage = opened.find_element(By.ID, "stage")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    width = script(opened, "document.getElementById('stage').getBoundingClientRect().width")
    lens = "document.querySelector('#lenses canvas').toDataURL()"
    ActionChains(opened).move_to_element_with_offset(stage, int(-width * 0.4), 0).perform()
    before = script(opened, lens)
    ActionChains(opened).click_and_hold().move_by_offset(int(width * 0.7), 0).release().perform()
    value = int(script(opened, "document.getElementById('slider').value"))
    assert value == pytest.approx(800, abs=15)
    clip = script(opened, "document.getElementById('before').style.clipPath")
    shown = re.match(r"inset\(0(?:px|%)? ([\d.]+)%", clip)
    assert shown and float(shown[1]) == pytest.approx(100 - value / 10)
    # The lens followed, in every candidate.
    assert script(opened, lens) != before
    assert script(opened, "document.querySelectorAll('#lenses canvas').length") == 3


def test_clicking_a_curve_shows_that_frame(opened) -> None:  # noqa: ANN001
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    over = opened.find_element(By.CSS_SELECTOR, "#curves .u-over")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", over)
    width = script(opened, "document.querySelector('#curves .u-over').getBoundingClientRect().width")
    ActionChains(opened).move_to_element_with_offset(over, int(width * 0.25), 0).click().perform()
    frame = int(script(opened, "document.getElementById('readout').dataset.frame"))
    assert frame == pytest.approx(0.75 * (FRAMES - 1), abs=1)
    text = script(opened, "document.getElementById('readout').textContent")
    assert f"frame {frame}," in text and "VMAF" in text and NAME in text
    pressed = script(opened, "document.querySelector('#moments [aria-pressed=true]').textContent")
    shown = int(pressed.rsplit(" ", 1)[1])
    every = script(opened, "[...document.querySelectorAll('#moments button')].map((b) => b.textContent)")
    assert abs(shown - frame) == min(abs(int(label.rsplit(" ", 1)[1]) - frame) for label in every)


def test_difference_theme_and_metric_buttons_work(opened) -> None:  # noqa: ANN001
    from selenium.webdriver.common.by import By

    opened.find_element(By.ID, "difference").click()
    colours = script(
        opened,
        "(() => { const c = document.getElementById('diff'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return [c.hidden, c.width, new Set(d).size]; })()",
    )
    assert colours[:2] == [False, 160] and colours[2] > 10
    theme = script(opened, "document.documentElement.dataset.theme")
    opened.execute_script("document.getElementById('theme').click()")
    assert (
        script(opened, "document.documentElement.dataset.theme") == {"dark": "light", "light": "dark"}[theme]
    )
    opened.execute_script("document.querySelectorAll('#tabs button')[2].click()")
    assert script(opened, "document.querySelector('#tabs [aria-pressed=true]').textContent") == "VMAF"


def test_a_phone_needs_no_sideways_scrolling(opened) -> None:  # noqa: ANN001
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        opened.refresh()
        assert script(opened, "document.documentElement.scrollWidth") <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
