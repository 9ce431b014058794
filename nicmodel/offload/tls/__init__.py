# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS records: their layout, their cipher, and a byte stream of them that is run through it."""
