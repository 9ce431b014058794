# SPDX-License-Identifier: GPL-2.0-or-later
"""An open, readable ConnectX: a NIC device model that the stock mlx5_core driver binds to."""
