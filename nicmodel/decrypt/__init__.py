# SPDX-License-Identifier: GPL-2.0-or-later
"""Read what is encrypted in a capture, with the keys that were written beside it."""
