"""ICC, EXIF, XMP and IPTC blocks, and resolution: read, checked, changed."""
