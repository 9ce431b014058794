# SPDX-License-Identifier: GPL-2.0-or-later
"""What silicon never tells: which nonce was used twice, what left in clear, what is out of order.

It watches the transmit engine (``queues.tls_watch``) and what leaves the queues, and changes
nothing of it.
"""
