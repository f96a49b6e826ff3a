"""The packages and the compiled part of stfcodec; all else is in setup.cfg. Without a compiler the
installation succeeds all the same, and the range coder runs in Python."""

from setuptools import Extension, find_packages, setup

setup(
    packages=[*find_packages(include=["stfcodec*"]), "stfcodec.weights"],
    ext_modules=[
        Extension(
            "stfcodec.entropy._rans",
            ["stfcodec/entropy/_rans.c"],
            extra_compile_args=["-O3"],
            py_limited_api=True,
            optional=True,
        )
    ],
)
