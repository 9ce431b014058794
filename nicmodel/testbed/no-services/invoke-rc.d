#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Stands before invoke-rc.d in the path of package scripts while set-up installs: the packages
# bring programs and libraries for us, and none of their services has to run.
exit 0
