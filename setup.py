"""Which folders make the package; everything else about it is in pyproject.toml.

The sharder and the configs lie at the top of the repository. They are installed below ``pal_ds``, so that an
installation claims one import name and one folder.
"""

from __future__ import annotations

from setuptools import find_namespace_packages, setup

#: Where folders of the repository are installed.
PLACES = {"pal_ds": "pal_ds", "pal_ds.shards": "shards", "pal_ds.configs": "configs"}

setup(
    package_dir=PLACES,
    # Folders of data alone (templates, configs) count as packages too, as setuptools wants it.
    packages=[
        name
        for place, folder in PLACES.items()
        for name in (
            place,
            *(f"{place}.{below}" for below in find_namespace_packages(folder, exclude=["*__pycache__*"])),
        )
    ],
)
