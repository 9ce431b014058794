# SPDX-License-Identifier: GPL-2.0-or-later
"""SMT as the NIC and those who watch it see it: packets of messages, and numbers of records."""
