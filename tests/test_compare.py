"""stfcodec compare: files of the same size, what is measured of them, and the command."""

from __future__ import annotations

import base64
import io
import re
import sys
from dataclasses import replace

import numpy as np
import photographs
import pytest
from PIL import Image, ImageCms

import stfcodec
from stfcodec import imageio, metrics
from stfcodec.compare import charts, others, page, summary
from stfcodec.compare.measure import Options, check, compare, steps
from stfcodec.compare.others import OtherCodec, SizeMatcher
from stfcodec.compare.results import MATCHED, Comparison, Point, Scores
from stfcodec.models import locate, registry

pytestmark = pytest.mark.skipif(
    locate.status(registry.by_name("wacnn-lite")) == "missing", reason="no embedded weights"
)

CODECS = others.available()[0]
BOTH = Options(models=("wacnn-lite", "stf-lite"), qualities=(2.0, 4.0))


def compared(pixels: np.ndarray, options: Options = BOTH, name: str = "photo.png") -> Comparison:
    return compare(name, imageio.Picture(pixels), 1234, options)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compared(photographs.crop((240, 256)))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_files_of_every_size(codec: OtherCodec) -> None:
    image = Image.fromarray(photographs.photo(256))
    matcher = SizeMatcher(codec, image)
    for size in (2500, 3300, 5000, 8000, 13000):
        level, file = matcher.match(size)
        assert len(file) == pytest.approx(size, rel=0.03)
        assert file == codec.encode(image, level)
        assert others.decode(file).shape == (256, 256, 3)
    # Beyond what the codec can do: the nearest that it has.
    for size, end in ((10, codec.levels[0]), (10**9, codec.levels[1])):
        assert matcher.match(size) == (end, codec.encode(image, end))


def test_sizes_are_matched_within_two_percent() -> None:
    image = Image.fromarray(photographs.photo(256))
    sizes = range(3000, 12000, 1000)
    for codec in CODECS:
        matcher = SizeMatcher(codec, image)
        off = [abs(len(matcher.match(size)[1]) / size - 1) for size in sizes]
        assert max(off) <= MATCHED and np.median(off) <= 0.01, codec.name


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_files_hold_the_profile_and_no_other_metadata(codec: OtherCodec) -> None:
    image = Image.fromarray(photographs.photo(64))
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info = {"icc_profile": profile, "exif": exif.tobytes(), "comment": b"SECRET"}
    file = codec.encode(image, sum(codec.levels) / 2)
    assert b"SECRET" not in file
    assert Image.open(io.BytesIO(file)).info["icc_profile"] == profile


def test_results_are_those_of_the_files(comparison: Comparison) -> None:
    source = photographs.crop((240, 256))
    assert np.array_equal(_pixels(comparison.source.data), source)
    assert [point.quality for point in comparison.points] == [2, 4]
    for point in comparison.points:
        first = point.results[0]
        assert [r.codec for r in point.results] == [*BOTH.models, *(c.name for c in CODECS)]
        for result in point.results:
            assert point.is_matched(result) == (abs(result.size / first.size - 1) <= 0.02)
            assert result.bpp == pytest.approx(8 * result.size / source[..., 0].size)
            decoded = _pixels(result.image.data)
            assert result.scores.psnr == pytest.approx(metrics.psnr(source, decoded))
            assert result.scores.ms_ssim == pytest.approx(metrics.ms_ssim(source, decoded))
            if result.ours:
                quality = float(result.settings.removeprefix("-q "))
                data = stfcodec.encode(source, model=result.codec, quality=quality)
                assert len(data) == result.size
                assert np.array_equal(np.asarray(stfcodec.decode(data)), decoded)
                assert np.array_equal(result.bits, stfcodec.bit_allocation(data).positions)
            else:
                assert (len(result.image.data), result.bits) == (result.size, None)
        # The second model has a variable rate, too.
        assert point.is_matched(point.results[1])
    assert first.settings == "-q 4" and point.results[1].settings != "-q 4"


def _pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def test_ssimulacra2_of_what_is_large_enough(comparison: Comparison) -> None:
    pytest.importorskip("ssimulacra2")
    for point in comparison.points:
        scores = {r.codec: r.scores.ssimulacra2 for r in point.results}
        assert scores["wacnn-lite"] > scores["WebP"] > scores["JPEG"]
    small = compared(photographs.photo(160), replace(BOTH, models=("wacnn-lite",)))
    scores = small.points[0].results[0].scores
    assert (scores.ssimulacra2, scores.ms_ssim) == (None, None)


def test_steps_are_counted() -> None:
    calls = []
    options = replace(BOTH, qualities=(3.0,))
    compare("", imageio.Picture(photographs.photo(64)), 1, options, lambda: calls.append(1))
    assert len(calls) == steps(options)


def test_transparent_and_grey_pictures() -> None:
    options = Options(models=("wacnn-lite",), qualities=(3.0,))
    pixels = photographs.photo(64)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:32] = 0
    found = compare("", imageio.Picture(pixels, alpha=alpha), 1, options)
    assert found.notes[0] == "transparency is compared on white"
    source = _pixels(found.source.data)
    assert (source[:32] == 255).all() and np.array_equal(source[32:], pixels[32:])
    gray = np.repeat(pixels[:, :, :1], 3, axis=2)
    found = compare("", imageio.Picture(gray, gray=True, icc=b"of grey"), 1, options)
    assert np.array_equal(_pixels(found.source.data), gray)
    assert b"of grey" not in found.source.data
    jpeg = next(r for r in found.points[0].results if r.codec == "JPEG")
    assert Image.open(io.BytesIO(jpeg.image.data)).mode == "L"


JPEG_IS_LARGER = r"JPEG comes no nearer than [0-9.]+ times the size at quality 2, .* quality 4"


def test_a_size_that_a_codec_has_not_is_said() -> None:
    """A JPEG of 600 bytes is the smallest there is, whatever the picture."""
    found = compared(np.full((64, 64, 3), 90, np.uint8), replace(BOTH, models=("wacnn-lite",)))
    assert any(re.fullmatch(JPEG_IS_LARGER, note) for note in found.notes)
    point = found.points[0]
    assert not point.is_matched(next(r for r in point.results if r.codec == "JPEG"))


def test_a_picture_that_other_codecs_cannot_code() -> None:
    """WebP ends at 16383 pixels, after which the source is shown as PNG."""
    pixels = photographs.crop((8, 16400))
    found = compared(pixels, Options(models=("wacnn-lite",), qualities=(1.0,)))
    assert "WebP" not in {r.codec for r in found.points[0].results}
    assert any(note.startswith("WebP cannot code it") for note in found.notes)
    assert found.source.mime == "image/png"
    assert np.array_equal(_pixels(found.source.data), pixels)


def test_unknown_qualities_are_refused_before_any_work() -> None:
    with pytest.raises(stfcodec.UsageError, match="outside 1…6"):
        check(Options(models=("wacnn-lite",), qualities=(7.0,)))


def test_tables(comparison: Comparison) -> None:
    lines = summary.table(comparison)
    assert lines[0] == "photo.png: 256x240, 1234 bytes"
    assert lines[2].split() == ["quality", "2", *" ".join(summary.HEADINGS).split()]
    row = summary.rows(comparison.points[0])[0]
    assert lines[3].split() == ["wacnn-lite", *summary.cells(row)]
    assert {len(line) for line in lines[2:8]} == {len(lines[2])}
    assert summary.cells(replace(row, scores=Scores(float("inf"), None, None)))[3:6] == [
        "∞",
        "–",
        "–",
    ]


def test_means(comparison: Comparison) -> None:
    other = compared(photographs.photo(256))
    first, second = (c.points[1].results[0] for c in (comparison, other))
    mean = summary.means([comparison, other])[1].rows[0]
    assert mean.bpp == pytest.approx((first.bpp + second.bpp) / 2)
    assert mean.scores.psnr == pytest.approx((first.scores.psnr + second.scores.psnr) / 2)
    without = [Point(p.quality, p.results[:-1]) for p in other.points]
    mean = summary.means([comparison, replace(other, points=tuple(without))])[1]
    assert [row.codec for row in mean.rows] == [r.codec for r in without[1].results]
    assert summary.mean_table([comparison, other])[0].startswith("mean of 2 pictures")


def test_pictures_of_unequal_sizes_do_not_count(comparison: Comparison) -> None:
    flat = compared(np.full((64, 64, 3), 90, np.uint8))
    mean = summary.means([flat, comparison])[1]
    assert (mean.count, mean.rows[0].size) == (1, comparison.points[1].results[0].size)
    (nothing, _) = summary.means([flat, flat])
    assert (nothing.count, nothing.rows) == (0, ())
    assert "Mean of 2 pictures" in page.render([flat, flat])
    cells = summary.cells(next(r for r in summary.rows(flat.points[0]) if r.codec == "JPEG"))
    assert cells[1].startswith("≠ ")


def test_charts_hold_every_point(comparison: Comparison) -> None:
    found = charts.charts([summary.rows(point) for point in comparison.points])
    assert [chart.title for chart in found][:2] == ["PSNR in dB", "MS-SSIM in dB"]
    for chart in found:
        marks = [mark for line in chart.lines for mark in line.marks]
        assert len(marks) == sum(len(point.results) for point in comparison.points)
        assert all(chart.left <= mark.x <= chart.right for mark in marks)
        assert all(chart.top <= mark.y <= chart.bottom for mark in marks)
        names = sorted(line.name_y for line in chart.lines)
        assert min(np.diff(names)) >= 15 and names[-1] <= chart.bottom
        ours = chart.lines[0]
        assert ours.codec == "wacnn-lite" and ours.marks[0].x < ours.marks[1].x
        assert ours.marks[0].y > ours.marks[1].y  # higher is better, and y points down
        assert "wacnn-lite from" in chart.description


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.93, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (30.2, 30.2, [30.2, 30.25]),
        (66.1926, 66.1926, [66.1, 66.2]),
        (-64, 73, [-100, -50, 0, 50, 100]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    ticks = charts.ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and len(ticks) >= 2
    assert ticks == expected


def test_page_holds_all_it_needs(comparison: Comparison) -> None:
    html = page.render([comparison])
    links = re.findall(r'(?:src|href|url)\s*=?\s*[("\']+([^"\')]{0,30})', html)
    assert links and all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?://", html)
    images = re.findall(r'src="data:(image/\w+);base64,([^"]+)"', html)
    results = [r for point in comparison.points for r in point.results]
    assert len(images) == 1 + len(results) + sum(r.ours for r in results)
    for mime, data in images:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert Image.MIME[image.format or ""] == mime
            image.load()
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img [^>]{0,300}", html))


NAME = "\"'><img src=x onerror=alert(1)>&.png"


def test_page_escapes_names() -> None:
    options = Options(models=("wacnn-lite",), qualities=(3.0,))
    html = page.render([compared(photographs.photo(64), options, NAME)])
    assert NAME not in html and html.count("&gt;&lt;img src=x onerror=alert(1)&gt;&amp;.png") > 5


def test_metrics_without_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch_msssim", "ssimulacra2"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("stfcodec.compare.measure.find_spec", lambda name: None)
    found = compared(photographs.crop((240, 256)), replace(BOTH, qualities=(3.0,)))
    assert {(r.scores.ms_ssim, r.scores.ssimulacra2) for r in found.points[0].results} == {
        (None, None)
    }
