# SPDX-License-Identifier: GPL-2.0-or-later
"""The handlers of commands, one module a family."""
