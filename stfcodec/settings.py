"""What one encoding is asked for, checked. Importable without torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stfcodec.errors import UsageError
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.models import registry
from stfcodec.models.registry import DEFAULT_MODEL, DEFAULT_QUALITY, ModelInfo
from stfcodec.rate_control import Target


@dataclass(frozen=True)
class EncodeSettings:
    """How pictures are coded; the values are checked when an instance is made.

    Raises UsageError for an unknown model or device, a quality that the model does not have, an
    effort outside 0…100, and a target that is not a `Target`.
    """

    model: str = DEFAULT_MODEL
    """A name from the registry."""
    quality: float = DEFAULT_QUALITY
    """1 (smallest file) to 6 (best picture), rounded to thousandths."""
    device: str = "auto"
    """Where the transforms run: auto, cpu or cuda."""
    weights: Path | None = None
    """A weights file in place of the embedded or installed one."""
    effort: int = 0
    """Iterations of the refinement of the latents, 0…100."""
    target: Target | None = None
    """A size or PSNR to aim at, in place of `quality`."""
    limits: Limits = DEFAULT_LIMITS
    """What is accepted of a picture."""
    verify: bool = False
    """Decode the symbols of each stream before it is returned."""
    strip: bool = False
    """Leave out ICC profile, EXIF, XMP and IPTC."""

    def __post_init__(self) -> None:
        checked = registry.check_quality(self.quality, self.model_info)
        object.__setattr__(self, "quality", checked)
        registry.check_device(self.device)
        object.__setattr__(self, "effort", registry.check_effort(self.effort))
        if not isinstance(self.target, Target | None):
            raise UsageError(f"{self.target!r} is no target: give stfcodec.Target(kind, value)")

    @property
    def model_info(self) -> ModelInfo:
        """The model's entry in the registry."""
        return registry.by_name(self.model)
