"""Colours that a file describes, as ICC profiles that suit the pixels."""
