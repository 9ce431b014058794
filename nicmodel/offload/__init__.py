# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure functions on frames: parse, checksum, segment, coalesce, RSS, steer."""
