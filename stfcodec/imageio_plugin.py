"""Importing this module lets imageio read and write .stf files, which it does by way of Pillow.

Without it imageio finds the format of named files only, once Pillow knows it.
"""

from imageio.config import FileExtension, extension_list, known_extensions

from stfcodec import pillow
from stfcodec.formats import STREAM_SUFFIX

pillow.register()
if STREAM_SUFFIX not in known_extensions:
    extension = FileExtension(name=pillow.FORMAT, extension=STREAM_SUFFIX, priority=["pillow"])
    known_extensions[STREAM_SUFFIX] = [extension]
    extension_list.append(extension)
