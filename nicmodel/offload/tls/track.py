# SPDX-License-Identifier: GPL-2.0-or-later
"""Where records lie in a received TCP stream, and how they are found again.

The rules are those of the kernel's ``Documentation/networking/tls-offload.rst`` (RX). A header says
where the next record begins, so a hole inside a record costs that record only. A hole with a header
in it is waited for; once the stream has gone on by more than the longest record, the tracker
searches for what looks like a header, follows the lengths from there, and has software asked
whether it was one, and of which record. What was counted since is added to the answer.

A tracker holds no payload but for at most four bytes of a header that a segment ends in.
"""

from dataclasses import dataclass

from nicmodel.offload.tls.record import (
    CONTENT_TYPES,
    EXPLICIT_NONCE,
    HEADER,
    MAX_PLAINTEXT,
    TAG,
)
from nicmodel.spec.tls import TlsVersion, TrackerState

_VERSION = b"\x03\x03"
"""TLS 1.2; TLS 1.3 writes the same."""

_SEQ = 0xFFFFFFFF
_HALF = 0x80000000
_NUMBER = (1 << 64) - 1


def lengths(version: TlsVersion) -> range:
    """What may follow a header, bytes (RFC 5288, RFC 8446 section 5.2)."""
    if version is TlsVersion.TLS_1_2:
        return range(EXPLICIT_NONCE + TAG, EXPLICIT_NONCE + MAX_PLAINTEXT + TAG + 1)
    return range(1 + TAG, MAX_PLAINTEXT + 256 + 1)


def _length(header: bytes) -> int:
    return header[3] << 8 | header[4]


def plausible(header: bytes, lengths: range) -> bool:
    """May these five bytes be a record header, if its length is one of ``lengths``?"""
    return header[0] in CONTENT_TYPES and header[1:3] == _VERSION and _length(header) in lengths


def after(seq: int, other: int) -> int:
    """By how much TCP sequence number ``seq`` is after ``other``; negative: before it."""
    return (seq - other + _HALF & _SEQ) - _HALF


@dataclass(frozen=True, slots=True)
class Walk:
    """What one payload has for the decryption.

    From byte ``start`` on, it goes on with the stretch of consecutive bytes that is being decrypted
    or, if ``number`` is not None, begins a new stretch with that record; ``start`` is -1 if there
    is nothing to decrypt. ``found``: a header in it is the one that software is to be asked about.
    """

    start: int = -1
    number: int | None = None
    found: bool = False


_NOTHING = Walk()


class Tracker:
    """The records of one stream; the first, ``number``, begins at ``next_record_tcp_sn``.

    ``lengths`` are those that a header may announce. TCP sequence numbers have 32 bits and wrap.
    """

    def __init__(self, next_record_tcp_sn: int, number: int, lengths: range) -> None:
        self.state = TrackerState.START
        self.next_record_tcp_sn = next_record_tcp_sn & _SEQ
        self.hw_resync_tcp_sn = 0
        """Where the header was found that software is, or was last, asked about."""
        self.records = 0
        """Headers seen since START, or since that one, which counts."""
        self._lengths = lengths
        self._number: int | None = number
        """The record that begins at ``next_record_tcp_sn``; None: not confirmed."""
        self._carry = b""
        """What has been seen of the header there."""
        self._inside = False
        """Does the stream go on inside the record before it, with no hole so far?"""
        self._stretch = False
        """Has every byte been given to the decryption since some header?"""
        self._expected = self.next_record_tcp_sn
        """Where the stream goes on."""

    @property
    def confirmed(self) -> bool:
        """Are record numbers known?"""
        return self._number is not None

    def confirm(self, tcp_sn: int, number: int) -> bool:
        """Software says: record ``number`` begins at ``tcp_sn``.

        False, and nothing changes, unless that is the header that it was asked about.
        """
        asked = self.state is TrackerState.TRACKING and self._number is None
        if not asked or tcp_sn != self.hw_resync_tcp_sn:
            return False
        self._number = number + self.records & _NUMBER
        return True

    def search(self) -> None:
        """Where records lie is not known any more."""
        self.state = TrackerState.SEARCHING
        self._number = None
        self._carry = b""
        self._inside = self._stretch = False

    def segment(self, seq: int, payload: memoryview) -> Walk:
        """Take the payload of a segment; it begins at TCP sequence number ``seq``."""
        if not payload:
            return _NOTHING
        at, found = 0, False
        if self.state is not TrackerState.SEARCHING:
            behind = self._hole(seq)
            if behind + len(payload) <= 0 or 0 < behind <= HEADER + self._lengths[-1]:
                return _NOTHING
            if behind > 0:
                self.search()
            at = max(0, -behind)
        while True:
            if self.state is TrackerState.SEARCHING:
                at = self._find(payload, at)
                if at < 0:
                    return _NOTHING
                found = True
                self.state = TrackerState.TRACKING
                self.hw_resync_tcp_sn = self.next_record_tcp_sn = seq + at & _SEQ
                self.records = 0
            start, number = (at, None) if self._stretch else (-1, None)
            while at < len(payload):
                if not self._inside:
                    if not self._stretch and self._number is not None and not self._carry:
                        self._stretch = True
                        start, number = at, self._number
                    stop = at + HEADER - len(self._carry)
                    if not self._header(seq + stop, payload[at:stop]):
                        break
                    at = stop
                else:
                    at = after(self.next_record_tcp_sn, seq)
                    self._inside = at > len(payload)
            else:
                self._expected = seq + len(payload) & _SEQ
                return Walk(start, number, found)
            self.search()  # from where a header should be: each byte is looked at once

    def _hole(self, seq: int) -> int:
        """How far ``seq`` is behind where the stream can go on."""
        behind = after(seq, self._expected)
        if behind > 0:
            # the rest of this record is of no use, nor is a piece of a header
            self._inside = self._stretch = False
            self._carry = b""
            self._expected = self.next_record_tcp_sn
            behind = after(seq, self._expected)
        return behind

    def _header(self, end: int, piece: memoryview) -> bool:
        """Take a header, or what a payload has of it, that ends before ``end``; may it be one?"""
        header = self._carry + piece
        if len(header) < HEADER:
            self._carry = header
            return True
        if not plausible(header, self._lengths):
            return False
        self._carry = b""
        self._inside = True
        self.state = TrackerState.TRACKING
        self.records += 1
        if self._number is not None:
            self._number = self._number + 1 & _NUMBER
        self.next_record_tcp_sn = end + _length(header) & _SEQ
        return True

    def _find(self, payload: memoryview, at: int) -> int:
        """Where from byte ``at`` on a whole header may begin; -1 if nowhere."""
        data = bytes(payload)
        version = data.find(_VERSION, at + 1)
        while 0 < version <= len(data) - HEADER + 1:
            if plausible(data[version - 1 : version - 1 + HEADER], self._lengths):
                return version - 1
            version = data.find(_VERSION, version + 1)
        return -1
