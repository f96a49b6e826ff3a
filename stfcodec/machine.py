"""Machine and libraries: what affects times, and nothing that names the host."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import PIL
from PIL import features

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd",
                 "bf16", "i8mm")  # fmt: skip
_LIBRARIES = {
    "libjpeg_turbo": "libjpeg-turbo",
    "webp": "libwebp",
    "avif": "libavif",
    "jpg_2000": "openjpeg",
}

_JPEG_XL = "pillow-jxl-plugin"


def describe() -> dict[str, str]:
    """Properties by name, in the order in which the page prints them."""
    import torch

    info = _cpu_info()
    flags = info.get("flags", info.get("Features", "")).split()
    machine = {
        "CPU": _cpu(info),
        "cores": str(cores()),
        "instructions": ", ".join(f for f in _INSTRUCTIONS if f in flags) or "unknown",
        "system": _system(),
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "Pillow": ", ".join([PIL.__version__, *_library_versions()]),
    }
    if torch.cuda.is_available():
        machine["GPU"] = torch.cuda.get_device_name()
    return machine


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu(info: dict[str, str]) -> str:
    """Name, family and model; in virtual machines the name alone is often just the maker."""
    name = info.get("model name", platform.processor() or platform.machine())
    if "cpu family" in info and "model" in info:
        name += f", family {info['cpu family']}, model {info['model']}"
    return name


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = f"{platform.system()} {platform.release()}"
    return f"{name}, {platform.machine()}"


def _library_versions() -> list[str]:
    found = [f"{n} {v}" for feature, n in _LIBRARIES.items() if (v := features.version(feature))]
    with suppress(metadata.PackageNotFoundError):
        found.append(f"{_JPEG_XL} {metadata.version(_JPEG_XL)}")
    return found
