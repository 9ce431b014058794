# SPDX-License-Identifier: GPL-2.0-or-later
"""One large send by itself, for tests."""

from collections.abc import Sequence

from nicmodel.frame import Train
from nicmodel.offload.segment import OtherLso, Segmenter


def segment(
    header: bytes,
    payload: Sequence[memoryview],
    mss: int,
    *,
    l3: bool,
    l4: bool,
    other: OtherLso = OtherLso.REPLICATE,
) -> Train | None:
    """One large send alone; see ``Segmenter``."""
    segmenter = Segmenter.of(header, mss, l3=l3, l4=l4, other=other)
    return None if segmenter is None else segmenter.cut([(header, payload)])
