"""Pictures from and to files in the usual formats. Nothing is lost silently.

A `Picture` holds 8-bit RGB planes (equal ones for grey), an optional alpha plane, and ICC, EXIF and
XMP blocks. `Picture.notes` has a line for each thing that was changed or left out. What cannot be
represented is refused with an ImageError. Resolution is kept only where it is part of EXIF.

* `picture`: the class `Picture`, and its conversion to a Pillow image.
* `read`, `write`: `Picture` from a source and into a file.
* `alpha`: the alpha plane of a stream, a PNG.

Parts of reading and writing:

* `sources`: from whatever a caller passes to an open Pillow image.
* `pillow`: opens files with Pillow, under this package's limits and errors.
* `modes`: Pillow's pixel modes to 8-bit grey or RGB.
* `metadata`: ICC, EXIF and XMP blocks, orientation.
* `colour`: colour descriptions other than ICC profiles; `icc` makes profiles of them.
* `png`, `tiff`, `jpeg2000`, `avif`, `bmp`: what Pillow ignores or misreads in these formats.
"""

from __future__ import annotations

from stfcodec.imageio.alpha import decode_alpha, encode_alpha
from stfcodec.imageio.picture import Picture, to_image
from stfcodec.imageio.read import read_picture
from stfcodec.imageio.sources import Source
from stfcodec.imageio.write import output_format, write_picture

__all__ = [
    "Picture",
    "Source",
    "decode_alpha",
    "encode_alpha",
    "output_format",
    "read_picture",
    "to_image",
    "write_picture",
]
