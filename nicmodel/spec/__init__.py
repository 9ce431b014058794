# SPDX-License-Identifier: GPL-2.0-or-later
"""What bytes mean: layouts and numbers, no behaviour."""
