# SPDX-License-Identifier: GPL-2.0-or-later
"""Races between send queues: record what they were given, carry it out in other orders."""
