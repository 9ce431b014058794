# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of ACCESS_REG, one file a family."""
