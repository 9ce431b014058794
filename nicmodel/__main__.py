# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m nicmodel``."""

import sys

from nicmodel.cli import main

sys.exit(main())
