"""The page of stfcodec compare in a browser: pixels, keys, mouse, touch, dark mode, no scripts.

It runs where Chromium and playwright are installed.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import photographs
import pytest
from PIL import Image

from stfcodec import heatmap, imageio
from stfcodec.compare import page as report
from stfcodec.compare.measure import Options, compare
from stfcodec.compare.results import Comparison
from stfcodec.models import locate, registry

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium"),
    pytest.mark.skipif(
        locate.status(registry.by_name("wacnn-lite")) == "missing", reason="no embedded weights"
    ),
]

SIDE = 192
SOURCE = photographs.photo(SIDE)


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    options = Options(models=("wacnn-lite",), qualities=(1.0, 3.0))
    pictures = {"first": SOURCE, "second": SOURCE[::-1, :128].copy()}
    return [compare(name, imageio.Picture(pixels), 1, options) for name, pixels in pictures.items()]


@pytest.fixture(scope="module")
def address(comparisons: list[Comparison], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.render(comparisons), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except sync_api.Error as error:
            pytest.skip(f"Chromium does not start here: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Any]:
    """Opens the report with a state after #; a message of the script's errors fails the test."""
    opened = []
    errors: list[str] = []

    def run(state: str = "", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 900, "height": 800}, **options)
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: _only_the_page(request.url, address, errors))
        page.goto(f"{address}#{state}")
        page.wait_for_timeout(150)
        return page

    yield run
    for context in opened:
        context.close()
    assert errors == []


def _only_the_page(url: str, address: str, errors: list[str]) -> None:
    if not url.startswith(("data:", address)):
        errors.append(f"asks for {url}")


def shown(page: Page) -> np.ndarray:
    """The pixels of the screen where the first picture lies."""
    page.wait_for_timeout(150)
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    left, top, width, height = page.evaluate(
        "(() => { const b = document.querySelector('.canvas').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height].map((n) => n * devicePixelRatio); })()"
    )
    return shot[round(top) : round(top + height), round(left) : round(left + width)]


def decoded(comparison: Comparison, point: int, codec: str) -> np.ndarray:
    result = next(r for r in comparison.points[point].results if r.codec == codec)
    return np.asarray(Image.open(io.BytesIO(result.image.data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("ratio", [1, 1.25, 1.5, 2])
def test_both_sides_are_shown_to_the_pixel(
    open_page: Any, comparisons: list[Comparison], ratio: float
) -> None:
    """Whatever the number of screen pixels for one of the page's."""
    page = open_page("zoom=1&divider=0.5&point=0", device_scale_factor=ratio)
    found = shown(page)
    ours = decoded(comparisons[0], 0, "wacnn-lite")
    # The names and the border cover some of it.
    left, right = np.s_[20:60, 10:70], np.s_[20:60, 120:180]
    # The browser may put a pane that begins between two pixels on either.
    moved = [np.roll(found, move, (0, 1)) for move in product((-1, 0, 1), repeat=2)]
    assert any(np.array_equal(each[left], SOURCE[left]) for each in moved)
    assert any(np.array_equal(each[right], ours[right]) for each in moved)
    assert not np.array_equal(SOURCE[right], ours[right])


def test_difference(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page("zoom=1&view=difference&gain=4&point=1&left=wacnn-lite&right=WebP")
    found = shown(page)
    ours, webp = (decoded(comparisons[0], 1, codec) for codec in ("wacnn-lite", "WebP"))
    expected = np.minimum(4 * np.abs(ours - webp), 255)[:150]
    assert expected.mean() > 5
    assert np.abs(found[:150] - expected).max() <= 4


def test_bits_are_drawn_over_the_picture(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page("view=bits&zoom=1&point=1")
    assert page.get_attribute("#stage .map", "alt").startswith("Bits per position of wacnn-lite")
    top = float(page.inner_text("#top"))
    bits = comparisons[0].points[1].results[0].bits
    assert bits is not None and bits.min() > 0 and bits.mean() < top
    below = decoded(comparisons[0], 1, "wacnn-lite")
    colours = heatmap.colours(bits / top).repeat(16, 0).repeat(16, 1)
    expected = 0.82 * colours + 0.18 * below
    found = shown(page)
    assert np.abs(found[:150] - expected[:150]).max() <= 3


def test_every_codec_beside_the_source(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page("view=all&point=1")
    names = page.locator("#stage .name").all_inner_texts()
    assert names == ["source", *(r.codec for r in comparisons[0].points[1].results)]
    assert page.locator("#captions span").count() == len(names)
    assert not page.locator("#handle").is_visible()
    boxes = [pane.bounding_box() for pane in page.locator(".pane").all()]
    assert len({(box["x"], box["y"]) for box in boxes}) == len(names)


def wait_for(page: Any, *parts: str) -> None:
    """Wait until the address has these parts: the page writes it when it is idle."""
    page.wait_for_function("all => all.every(part => location.hash.includes(part))", arg=parts)


def test_keys(open_page: Any) -> None:
    page = open_page()
    page.focus("#handle")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert page.get_attribute("#handle", "aria-valuenow") == "61"
    page.keyboard.press("Home")
    assert page.get_attribute("#handle", "aria-valuenow") == "0"
    page.focus("#stage")
    page.keyboard.press("1")
    assert page.inner_text("#zoom") == "100 %"
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.inner_text("#zoom") == "800 %"
    before = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => location.href !== before", arg=before)
    wait_for(page, "zoom=8")
    page.keyboard.press("-")
    page.keyboard.press("d")
    wait_for(page, "view=difference", "zoom=4")
    page.keyboard.press("x")
    wait_for(page, "left=wacnn-lite&right=source")
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert page.is_checked('[name="point"][value="1"]')
    page.keyboard.press("0")
    wait_for(page, "zoom=0")


def test_space_bar_shows_the_left_picture(open_page: Any) -> None:
    page = open_page("zoom=1&divider=0")
    covered = shown(page)
    page.focus("#stage")
    page.keyboard.down(" ")
    alone = shown(page)
    page.keyboard.up(" ")
    part = np.s_[20:80, 20:]
    assert np.array_equal(alone[part], SOURCE[part])
    assert not np.array_equal(covered[part], SOURCE[part])
    assert np.array_equal(shown(page)[part], covered[part])


def test_mouse(open_page: Any) -> None:
    page = open_page("zoom=8")
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + 200, box["y"] + 100
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 80, y - 40)
    page.mouse.up()
    state = dict(part.split("=") for part in page.url.split("#")[1].split("&"))
    assert float(state["x"]) == pytest.approx(0.5 + 80 / (8 * SIDE), abs=1e-3)
    assert float(state["y"]) == pytest.approx(0.5 + 40 / (8 * SIDE), abs=1e-3)
    page.mouse.dblclick(x, y)
    assert page.inner_text("#zoom") == "1600 %"
    page.keyboard.down("Control")
    page.mouse.wheel(0, 200)
    page.keyboard.up("Control")
    page.wait_for_timeout(100)
    assert page.inner_text("#zoom") == "589 %"  # 16 / e
    handle = page.locator("#handle").bounding_box()
    page.mouse.move(handle["x"] + 22, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, y)
    page.mouse.up()
    assert page.get_attribute("#handle", "aria-valuenow") == "25"


def test_touch(open_page: Any) -> None:
    page = open_page("zoom=2", has_touch=True, is_mobile=True)
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": a, "y": b, "id": number} for number, (a, b) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    before = float(page.inner_text("#zoom").split()[0])
    touch("touchStart", (x, y), (x + 40, y))
    touch("touchMove", (x - 10, y), (x + 50, y))
    touch("touchMove", (x - 20, y), (x + 60, y))
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert float(page.inner_text("#zoom").split()[0]) == pytest.approx(before * 2, rel=0.03)
    handle = page.locator("#handle").bounding_box()
    touch("touchStart", (handle["x"] + 22, y))
    touch("touchMove", (box["x"] + box["width"] * 0.8, y))
    touch("touchEnd")
    assert page.get_attribute("#handle", "aria-valuenow") == "80"


def test_controls(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page()
    page.select_option("#picture", "1")
    assert page.locator("section.picture:visible h2").all_inner_texts() == ["second"]
    page.select_option("#left", "AVIF")
    page.locator('label:has([name="point"][value="1"])').click()
    size = next(r.size for r in comparisons[1].points[1].results if r.codec == "AVIF")
    assert page.inner_text("#captions").startswith(f"Left: AVIF, {size} bytes")
    assert (
        page.locator(".curve circle.now:visible").count() == page.locator(".curve:visible").count()
    )
    page.locator('button.show[data-codec="WebP"][data-point="0"]:visible').click()
    assert page.input_value("#right") == "WebP" and page.is_checked('[name="point"][value="0"]')
    page.click("#pixel")
    page.reload()
    assert page.inner_text("#zoom") == "100 %" and page.input_value("#picture") == "1"


def test_an_address_with_anything_in_it(open_page: Any) -> None:
    page = open_page(
        "picture=9&point=-3&view=none&zoom=1e9&x=NaN&y=7&left=__proto__&gain=3&divider=-1"
    )
    assert page.inner_text("#captions").startswith("Left: source")
    assert page.inner_text("#zoom") == "3200 %"
    assert page.input_value("#picture") == "1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colour_schemes(open_page: Any, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    style = "getComputedStyle(document.body).{}.match(/[0-9]+/g).map(Number)"
    paper, ink = (page.evaluate(style.format(name)) for name in ("backgroundColor", "color"))
    assert (np.mean(paper) < 60) == (scheme == "dark") == (np.mean(ink) > 180)


def test_without_scripts(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#viewer").is_visible()
    images = page.locator("#gallery img:visible")
    results = [r for c in comparisons for p in c.points for r in p.results]
    assert images.count() == len(comparisons) + len(results) + sum(r.ours for r in results)
    assert page.locator("table:visible").count() == 3 * 2  # two pictures and the mean
    assert page.locator("section.picture").all_inner_texts()[1].startswith("second")


def test_paper_has_every_picture(open_page: Any, comparisons: list[Comparison]) -> None:
    page = open_page()
    assert page.locator("#gallery img:visible").count() == 0
    page.emulate_media(media="print")
    assert page.locator("#gallery img:visible").count() > len(comparisons)
    assert page.locator("section.picture:visible").count() == len(comparisons)


def test_every_image_can_be_decoded(open_page: Any) -> None:
    page = open_page()
    widths = page.evaluate(
        """Promise.all([...document.images].map((image) => new Promise((done) => {
            const copy = new Image();
            copy.onload = () => done(copy.naturalWidth);
            copy.onerror = () => done(0);
            copy.src = image.src;
        })))"""
    )
    assert len(widths) > 20 and min(widths) > 0


def test_zooming_out_of_a_large_picture(open_page: Any) -> None:
    page = open_page("zoom=0.0625")
    page.set_viewport_size({"width": 900, "height": 300})
    page.focus("#stage")
    page.keyboard.press("-")
    assert page.inner_text("#zoom") == "6 %"


def test_narrow_screens(open_page: Any) -> None:
    page = open_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [b.bounding_box() for b in page.locator("#controls button:visible").all()]
    assert all(box["x"] + box["width"] <= 360 and box["height"] >= 36 for box in boxes)
