# SPDX-License-Identifier: GPL-2.0-or-later
"""``make bench``: all measurements, or those of one part (``T=model``, ``vm``, ``ktls``, ``smt``).

Figures go to ``build/bench/results.json``, curves and flame graphs beside it.
"""

import argparse
import sys

from nicmodel.errors import UserError
from nicmodel.testbed.errors import GuestError, Unavailable
from nicmodel.testbed.lab import Lab
from tests.bench import ktls, model, smt, vm
from tests.bench.report import report

ALONE = {"model": model.run}
IN_GUESTS = {"vm": vm.run, "ktls": ktls.run, "smt": smt.run}
PARTS = [*ALONE, *IN_GUESTS]


def main() -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)}; all")
    chosen = parser.parse_args().parts or PARTS
    for part in chosen:
        if part not in PARTS:
            parser.error(f"there is no part {part}; choose from {', '.join(PARTS)}")
    try:
        results = [result for part in chosen if part in ALONE for result in ALONE[part]()]
        if guests := [part for part in chosen if part in IN_GUESTS]:
            with Lab() as lab:  # a process has one
                results += [result for part in guests for result in IN_GUESTS[part](lab)]
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 4
    except (UserError, GuestError) as error:
        print(error, file=sys.stderr)
        return 1
    report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
