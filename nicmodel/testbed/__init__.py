# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines around the model: host set-up, guest image, life cycle, network, results."""

import os

# libvirt reads this when it is imported; what it has to say comes as exceptions, and in embedded
# mode it would write the same, and every harmless warning, on this process's stderr
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
