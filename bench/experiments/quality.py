"""Write the quality tables of RESULTS.md.

``python -m bench.experiments.quality [--print]``. Needs SAFFU_DATA and scikit-learn.
"""

from __future__ import annotations

import argparse

from bench.experiments import classifier_quality, language_model_quality
from bench.measure import check_published, data_folder, machine_line, publish, require


def main() -> None:
    """Measure both models on all corpora, then write."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiments.quality", description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the tables and leave RESULTS.md alone")
    arguments = parser.parse_args()
    require("sklearn")
    check_published("quality", arguments.print)
    folder = data_folder()
    sections = [
        "### Language model",
        language_model_quality.report(folder),
        "### Classifier",
        classifier_quality.table(list(classifier_quality.rows(folder))),
        machine_line("every core", ("scikit-learn",)),
    ]
    publish("quality", "\n\n".join(sections), arguments.print)


if __name__ == "__main__":
    main()
