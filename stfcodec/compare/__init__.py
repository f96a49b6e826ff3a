"""Compares our models with other codecs at the same size of file, as a table or as a web page.

* `others`: JPEG, WebP and AVIF through Pillow, at any size of file.
* `measure`: codes pictures at operating points, and measures what comes out (`results`).
* `summary`: the numbers as rows: the table, JSON, means over pictures.
* `charts`: rate-distortion curves as SVG.
* `page`: one HTML file with everything, from the template in `report/`.
"""
