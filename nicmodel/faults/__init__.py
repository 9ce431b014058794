# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the device, on purpose: what can break, when it breaks, and how it is put in place."""
