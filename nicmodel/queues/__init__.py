# SPDX-License-Identifier: GPL-2.0-or-later
"""What moves: event, completion, send and receive queues, and the doorbells."""
