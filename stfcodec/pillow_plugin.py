"""Importing this module lets Pillow open and save .stf files: `import stfcodec.pillow_plugin`."""

from stfcodec.pillow import register

register()
