# SPDX-License-Identifier: GPL-2.0-or-later
"""Talk to a NIC process while it runs: a UNIX socket, one JSON object a line each way.

A request is ``{"do": VERB, ...}``; the answer ``{"ok": true, ...}`` or ``{"error": SENTENCE}``.
``Control`` asks; ``server`` answers.
"""

from nicmodel.control.client import Cable, Control

__all__ = ["Cable", "Control"]
