"""Pillow opens .stf files: what Pillow's users expect of a format holds for this one."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import Command, one_error
from photographs import crop as photograph
from PIL import Image, UnidentifiedImageError

import stfcodec
from stfcodec import container
from stfcodec import pillow as plugin
from stfcodec.formats import STREAM_MIME

plugin.register()

FOLDER = Path(__file__).parent
GOLDEN, BAD = FOLDER / "golden", FOLDER / "bad"
RGB, FULL = GOLDEN / "stf-lite-3.5-70x50-rgb.stf", GOLDEN / "wacnn-lite-3.5-70x50-full.stf"
GREY, RGBA = GOLDEN / "stf-lite-1-70x50-grey.stf", GOLDEN / "wacnn-lite-6-70x50-rgba.stf"


def run(code: str, *arguments: object) -> str:
    """What a fresh interpreter prints."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    return done.stdout


# Registration -------------------------------------------------------------------------------------


def test_registering_twice_changes_nothing() -> None:
    before = list(Image.ID), dict(Image.OPEN)
    plugin.register()
    assert (list(Image.ID), dict(Image.OPEN)) == before
    assert Image.ID.count(plugin.FORMAT) == 1
    assert Image.MIME["STF"] == STREAM_MIME
    assert Image.registered_extensions()[".stf"] == "STF"


def test_importing_the_plugin_registers_and_opening_needs_no_torch() -> None:
    code = """if True:
        import json, sys
        import stfcodec.pillow_plugin
        from PIL import Image
        with Image.open(sys.argv[1]) as image:
            image.verify()
            info = {name: str(value) for name, value in image.info.items()}
            print(json.dumps([image.mode, image.size, info, "torch" in sys.modules]))
    """
    mode, size, info, has_torch = json.loads(run(code, FULL))
    assert (mode, size, has_torch) == ("RGB", [70, 50], False)
    assert (info["model"], info["quality"]) == ("wacnn-lite", "3.5")
    assert {"icc_profile", "exif", "xmp"} < set(info)


def test_without_torch_files_open_and_pixels_are_one_clear_error(tmp_path: Path) -> None:
    code = """if True:
        import sys
        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "torch":
                    raise ModuleNotFoundError("No module named 'torch'", name="torch")
        sys.meta_path.insert(0, NoTorch())
        from PIL import Image
        import stfcodec.pillow_plugin
        with Image.open(sys.argv[1]) as image:
            print(image.size)
            for call in (image.load, lambda: Image.new("L", (8, 8)).save(sys.argv[2])):
                try:
                    call()
                except ImportError as error:
                    print(error)
    """
    size, *errors = run(code, RGB, tmp_path / "new.stf").splitlines()
    assert size == "(70, 50)"
    assert errors == ["the pixels of .stf files need torch: pip install torch"] * 2
    assert list(tmp_path.iterdir()) == []


# Opening ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [RGB, FULL, GREY, RGBA], ids=lambda path: path.stem)
def test_an_opened_file_is_what_decode_returns(path: Path) -> None:
    wanted, header = stfcodec.decode(path), container.read(path.read_bytes()).header
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        with Image.open(source) as image:
            assert (image.format, image.mode, image.size) == ("STF", wanted.mode, wanted.size)
            assert image.get_format_mimetype() == STREAM_MIME
            assert image.info.pop("model") == path.stem.rsplit("-", 3)[0]
            assert image.info.pop("quality") == header.quality
            assert image.info == wanted.info
            assert image.tobytes() == wanted.tobytes()


def test_operations_on_pixels() -> None:
    with Image.open(RGB) as image:
        image.verify()
    with Image.open(RGB) as image:
        assert image.draft("L", (70, 50)) is None
        assert image.load() is not None
        pixels = image.tobytes()
        image.load()[0, 0] = (1, 2, 3)
        image.load()
        assert image.getpixel((0, 0)) == (1, 2, 3), "decoded a second time"
    assert image.copy().tobytes()[3:] == pixels[3:]
    with Image.open(RGB) as image:
        assert image.copy().tobytes() == pixels
    with Image.open(RGB) as image:
        assert image.convert("L").mode == "L"
    with Image.open(RGB) as image:
        image.thumbnail((35, 35))
        assert image.size == (35, 25)
    again = pickle.loads(pickle.dumps(Image.open(RGB)))
    assert again.load() is not None
    assert again.tobytes() == pixels


def test_a_file_is_closed_once_it_is_decoded(tmp_path: Path) -> None:
    image = Image.open(RGB)
    image.load()
    assert image.fp is None
    with RGB.open("rb") as file:
        Image.open(file).load()
        assert not file.closed, "a file of the caller is left open"


def test_threads_load_one_image_and_many() -> None:
    wanted = stfcodec.decode(RGB).tobytes()
    with Image.open(RGB) as image, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: image.tobytes(), range(8))) == {wanted}
        assert set(pool.map(lambda _: Image.open(RGB).tobytes(), range(8))) == {wanted}


@pytest.mark.slow
def test_threads_that_begin_at_once_import_one_at_a_time() -> None:
    code = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from PIL import Image
        import stfcodec.pillow_plugin
        with ThreadPoolExecutor(4) as pool:
            print(len(set(pool.map(lambda _: Image.open(sys.argv[1]).tobytes(), range(4)))))
    """
    assert run(code, RGB) == "1\n"


def _size_and_sum(path: Path) -> tuple[tuple[int, int], int]:
    with Image.open(path) as image:
        return image.size, sum(image.tobytes())


@pytest.mark.slow
def test_worker_processes_open_files() -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, initializer=plugin.register) as pool:
        assert pool.map(_size_and_sum, [RGB, GREY]) == [_size_and_sum(RGB), _size_and_sum(GREY)]


# What cannot be opened ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["empty", "cut-in-signature", "not-a-stream", "text-mode"])
def test_other_files_are_left_to_other_formats(name: str) -> None:
    with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
        Image.open(BAD / f"{name}.stf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut-in-data", "truncated or damaged"),
        ("bit-in-head", "fails its CRC check"),
        ("version-2", "update stfcodec"),
        ("model-unknown", "upgrade stfcodec"),
        ("metadata-bomb", "inflates to more than"),
        ("width-0", "width is 0"),
    ],
)
def test_damage_is_told_when_a_file_is_opened(name: str, message: str) -> None:
    with pytest.raises(UnidentifiedImageError, match=message):
        Image.open(BAD / f"{name}.stf")


@pytest.mark.parametrize(
    ("name", "message"),
    [("y-bit", "symbols are damaged"), ("wrong-checksum", "checksum"), ("alpha-cut", "alpha")],
)
def test_damaged_symbols_are_an_error_of_each_load(name: str, message: str) -> None:
    with Image.open(BAD / f"{name}.stf") as image:
        for _ in range(2):
            with pytest.raises(OSError, match=message) as caught:
                image.load()
    assert isinstance(caught.value.__cause__, stfcodec.StreamError)


def test_missing_weights_are_an_error_of_load() -> None:
    with (
        Image.open(BAD / "foreign-fingerprint.stf") as image,
        pytest.raises(OSError, match="weights 00000000") as caught,
    ):
        image.load()
    assert isinstance(caught.value.__cause__, stfcodec.WeightsError)


def test_pillows_limit_bounds_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70 * 50 - 1)
    with pytest.warns(Image.DecompressionBombWarning), Image.open(RGB):
        pass
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError, match="limit of 2000"):
        Image.open(RGB)


@pytest.mark.parametrize("name", ["huge", "large", "wide-and-thin", "high-and-thin"])
def test_size_counts_with_padding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Image.DecompressionBombError, match=r"raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        Image.open(BAD / f"{name}.stf")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(BAD / f"{name}.stf") as image:
        assert max(image.size) >= 16384


def test_encode_takes_no_stream_for_a_picture(stf: Command, coded: Path) -> None:
    one_error(stf("encode", coded, "-o", coded.with_name("b.stf")), 3, "is coded already")
    for source in (coded, coded.read_bytes()):
        with pytest.raises(stfcodec.ImageError, match="not a picture of a known kind"):
            stfcodec.encode(source)


@pytest.mark.parametrize(("asked", "divisor"), [((400, 300), 1), ((200, 150), 2), ((20, 15), 16)])
def test_a_draft_has_the_scale_that_suffices(asked: tuple[int, int], divisor: int) -> None:
    data = stfcodec.encode(photograph((300, 400)))
    image = Image.open(io.BytesIO(data))
    found = image.draft(None, asked)
    size = -(-400 // divisor), -(-300 // divisor)
    assert image.size == size
    assert found == (None if divisor == 1 else ("RGB", (0, 0, 400 / divisor, 300 / divisor)))
    expected = stfcodec.decode(data, scale=1 / divisor)
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert image.draft(None, (1, 1)) is None  # it is decoded


def test_thumbnails() -> None:
    data = stfcodec.encode(photograph((300, 400)), quality=6)
    small = Image.open(io.BytesIO(data))
    small.thumbnail((100, 100))
    assert small.size == (100, 75)
    whole = stfcodec.decode(data)
    whole.thumbnail((100, 100))
    assert np.abs(np.asarray(small, int) - np.asarray(whole)).mean() < 1
