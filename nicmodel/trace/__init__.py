# SPDX-License-Identifier: GPL-2.0-or-later
"""Declared, typed events and where they go."""
