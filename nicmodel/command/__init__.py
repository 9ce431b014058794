# SPDX-License-Identifier: GPL-2.0-or-later
"""The firmware command interface: mailboxes, declared commands, and what firmware does."""
