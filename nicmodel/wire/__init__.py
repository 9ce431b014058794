# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies between NICs: ports, links, switches, host taps and captures."""
