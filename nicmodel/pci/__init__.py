# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver sees in BAR 0: initialization segment and UAR pages."""
