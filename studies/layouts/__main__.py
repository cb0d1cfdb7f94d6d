"""`python -m studies.layouts TEXTS OUT --recipes train/layouts/*.yaml`, after `python -m
studies.layouts.texts DATA TEXTS`. Arms that are done are kept; the same command continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from crystallm.base.config import from_mapping, load_recipe, with_overrides
from crystallm.base.provenance import output_folder
from crystallm.train.config import TrainConfig
from crystallm.train.process import prepare_process
from studies.layouts.config import LayoutsConfig
from studies.layouts.report import markdown


def main() -> None:
    """Train and measure every recipe with the same crystals and operations; the tables stand in OUT/layouts.md."""
    parser = argparse.ArgumentParser(prog="python -m studies.layouts", description=main.__doc__)
    parser.add_argument("texts", type=Path, help="folder made by studies.layouts.texts")
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--recipes", type=Path, nargs="+", required=True, help="train/layouts/*.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of LayoutsConfig")
    parser.add_argument(
        "--recipe-set", action="append", default=[], metavar="FIELD=VALUE", help="a field of every recipe"
    )
    options = parser.parse_args()
    config = from_mapping(LayoutsConfig, with_overrides({}, options.set), source="--set")
    arms = [(path.stem, load_recipe(TrainConfig, path, overrides=options.recipe_set)) for path in options.recipes]
    prepare_process()
    from studies.layouts.arms import compare

    print(markdown(compare(arms, config, options.texts, output_folder(options.out))))


if __name__ == "__main__":
    main()
