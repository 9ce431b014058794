# SPDX-License-Identifier: GPL-2.0-or-later
"""What firmware remembers: frozen configurations and states, in typed tables."""
