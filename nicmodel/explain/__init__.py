# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of one message or record, told from what a run has left."""
