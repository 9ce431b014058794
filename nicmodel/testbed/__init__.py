# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines around the model: host set-up, guest image, life cycle, network, results."""
