"""Pictures from and to files in the usual formats. Nothing is lost silently.

A `Picture` holds RGB planes of 8 or 16 bits (equal ones for grey), an optional alpha plane of 8
bits, and ICC, EXIF, XMP and IPTC blocks. `Picture.notes` has a line for each thing that was changed
or left out. What cannot be represented is refused with an ImageError.

* `picture`: the class `Picture`, and its conversion to a Pillow image.
* `read`, `write`: `Picture` from a source and into a file.
* `alpha`: the alpha plane of a stream, a PNG.
* `hidden`: fills what alpha hides, before coding. `background`: puts a picture on a colour.
* `strip`: leaves metadata out. `resized`: a part or a reduced copy of a picture.

Parts of reading and writing:

* `sources`: from whatever a caller passes to an open Pillow image.
* `pillow`: opens files with Pillow, under this package's limits and errors.
* `modes`: Pillow's pixel modes to 8-bit grey or RGB. `deep`: what has more than 8 bits.
* `metadata`: ICC, EXIF, XMP and IPTC blocks, orientation (`reading`), what such blocks say, and the
  structures that they have.
* `colours`: colour descriptions other than ICC profiles, and profiles that suit the pixels.
* `by_format`: what Pillow ignores, misreads or does not write in single formats.
* `encoders`: files with their blocks.
"""

from __future__ import annotations

from stfcodec.imageio.alpha import decode_alpha, encode_alpha
from stfcodec.imageio.background import on_background, parse_colour
from stfcodec.imageio.colours.profiles import fitted as fitted_profile
from stfcodec.imageio.colours.profiles import with_fitted_profile
from stfcodec.imageio.hidden import without_hidden_colours
from stfcodec.imageio.picture import Picture, pillow_info, to_8_bits, to_image
from stfcodec.imageio.read import read_picture
from stfcodec.imageio.resized import reduced, with_true_size
from stfcodec.imageio.sources import Source
from stfcodec.imageio.strip import without_metadata
from stfcodec.imageio.write import output_format, write_picture

__all__ = [
    "Picture",
    "Source",
    "decode_alpha",
    "encode_alpha",
    "fitted_profile",
    "on_background",
    "output_format",
    "parse_colour",
    "pillow_info",
    "read_picture",
    "reduced",
    "to_8_bits",
    "to_image",
    "with_fitted_profile",
    "with_true_size",
    "without_hidden_colours",
    "without_metadata",
    "write_picture",
]
