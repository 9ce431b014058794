# SPDX-License-Identifier: GPL-2.0-or-later
"""A byte stream of TLS records that is run through the cipher, however it is cut.

Both directions change nothing but the bytes between header and tag (and the tag, when encrypting),
so a stream has the same length before and after. A card does the same: records may begin, end and
be split anywhere, header, nonce and tag included (``ktls_tx.c``, ``tls-offload.rst``).
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, AEADEncryptionContext

from nicmodel.offload.tls.cipher import RecordCipher
from nicmodel.offload.tls.record import (
    FORMATS,
    HEADER,
    TAG,
    Buffer,
    next_number,
)


@dataclass(slots=True)
class Record:
    """One record that a stream has finished, or given up.

    ``number`` is the one that it was protected with. ``prefix``: header and explicit nonce, fewer
    bytes if it was given up before. ``nonce`` and ``aad`` are empty if nothing was protected: the
    stream ended too early, or ``length`` has no room for nonce and tag. ``tag`` is the computed one
    when encrypting, the received one when decrypting, None for a record without. ``end`` is the
    offset behind it in the data of the ``run`` that finished it. ``authentic`` is false if it was
    decrypted and the tag is wrong. ``ciphertext``: pieces of what it became, if the stream keeps
    them; they are views of what ``run`` wrote.
    """

    number: int
    prefix: bytes
    nonce: bytes
    aad: bytes
    tag: bytes | None
    end: int
    authentic: bool = True
    ciphertext: tuple[memoryview, ...] = ()

    @property
    def type(self) -> int:
        """Content type as the header has it; TLS 1.3 hides the true one."""
        return self.prefix[0] if self.prefix else 0

    @property
    def octets(self) -> int:
        """Bytes of it with its header, according to that, which is complete."""
        return HEADER + int.from_bytes(self.prefix[3:HEADER], "big")


class RecordStream:
    """The records of one direction from record ``number`` on; the first byte begins a record.

    Use ``EncryptStream`` or ``DecryptStream``. Nothing is checked of a header but that its length
    has room for nonce and tag; a record without that room passes unchanged, and counts.
    """

    __slots__ = (
        "_aad",
        "_cipher",
        "_format",
        "_keep",
        "_nonce",
        "_opened",
        "_overhead",
        "_pieces",
        "_prefix",
        "_tag",
        "_tells",
        "_text",
        "_trailer",
        "_wanted",
        "number",
    )  # fmt: skip

    def __init__(self, cipher: RecordCipher, number: int) -> None:
        self.number = number
        """Of the record in progress, or of the next one."""
        self._cipher = cipher
        self._format = FORMATS[cipher.version]
        self._keep = False
        self._tells = True
        self._overhead = self._format.prefix - HEADER + TAG
        self._reset()

    def _reset(self) -> None:
        """The next byte begins a record."""
        self._prefix = b""
        self._wanted = HEADER  # bytes of the prefix to come
        self._text = 0  # bytes between prefix and tag to come
        self._trailer = 0  # bytes of the tag to come
        self._opened = False  # is there a cipher context for this record?
        self._nonce = self._aad = self._tag = b""
        self._pieces: list[memoryview] = []

    @property
    def begun(self) -> bool:
        """Is a record in progress?"""
        return bool(self._prefix)

    @property
    def left(self) -> int | None:
        """Bytes to come of the record in progress; None if its header is not complete."""
        if len(self._prefix) < HEADER:
            return None
        return self._wanted + self._text + self._trailer

    def run(self, data: Buffer, out: bytearray | memoryview) -> list[Record]:
        """Run ``data`` through, into ``out`` of at least the same length; records that end in it.

        ``data`` may be guest memory: what decides anything is read once. The two must not overlap.
        The text of a record that is not ``authentic`` is unspecified in ``out``.
        """
        source, target = memoryview(data), memoryview(out)
        at, end = 0, len(source)
        done: list[Record] = []
        while at < end:
            if not self._prefix:
                at = self._records(source, target, at, done)
                if at == end:
                    break
            at = self._part(source, target, at)
            if not self._wanted and not self._text and not self._trailer:
                self._finish(at, done)
        return done

    @property
    def unfinished(self) -> Record | None:
        """What there is of the record in progress, or None."""
        if not self._prefix:
            return None
        kept = tuple(self._pieces)
        return Record(self.number, self._prefix, self._nonce, self._aad, None, 0, True, kept)

    def give_up(self) -> Record | None:
        """Forget the record in progress; what there was of it, or None. ``number`` stays."""
        record = self.unfinished
        self._reset()
        return record

    def _records(self, source: memoryview, target: memoryview, at: int, done: list[Record]) -> int:
        """Do the records that lie in ``source`` from ``at`` on as a whole, and begin the one after
        them if its prefix does; where that ends.
        """
        end = len(source)
        form, iv, overhead = self._format, self._cipher.iv, self._overhead
        first = form.prefix
        while end - at >= first:
            prefix = bytes(source[at : at + first])
            length = prefix[3] << 8 | prefix[4]
            if length < overhead:
                break
            text = at + first
            target[at:text] = prefix
            stop = at + HEADER + length
            if stop > end:
                self._prefix, self._wanted = prefix, 0
                self._open(length - overhead)
                return text
            number = self.number
            nonce = form.nonce(iv, number, prefix)
            aad = form.aad(number, prefix, length - overhead)
            tail = stop - TAG
            authentic = self._at_once(nonce, aad, source, target, text, tail)
            if self._tells:
                tag = bytes(target[tail:stop])
                kept = (target[text:tail],) if self._keep else ()
                done.append(Record(number, prefix, nonce, aad, tag, stop, authentic, kept))
            self.number = next_number(number)
            at = stop
        return at

    def _part(self, source: memoryview, target: memoryview, at: int) -> int:
        """Do what ``source`` has from ``at`` on of the record in progress, or of a prefix that is
        cut; where that ends.
        """
        if self._wanted:
            piece = bytes(source[at : at + self._wanted])
            stop = at + len(piece)
            target[at:stop] = piece
            self._prefix += piece
            self._wanted -= len(piece)
            if not self._wanted:
                self._prefix_read()
            return stop
        if self._text:
            stop = min(at + self._text, len(source))
            if self._opened:
                self._update(source[at:stop], target[at:stop])
                if self._keep:
                    self._pieces.append(target[at:stop])
            else:
                target[at:stop] = source[at:stop]
            self._text -= stop - at
            if self._text:
                return stop
            if self._opened:
                self._text_done()
            at = stop
        stop = min(at + self._trailer, len(source))
        if at < stop:
            self._pass_tag(source[at:stop], target[at:stop])
            self._trailer -= stop - at
        return stop

    def _prefix_read(self) -> None:
        """Header, or header and nonce, are complete: how the record goes on."""
        length = self._prefix[3] << 8 | self._prefix[4]
        if length < self._overhead:
            self._text = length
        elif len(self._prefix) < self._format.prefix:
            self._wanted = self._format.prefix - len(self._prefix)
            self._text, self._trailer = length - self._overhead, TAG
        else:
            self._open(length - self._overhead)

    def _open(self, text: int) -> None:
        """Prefix and record number are known, ``text`` bytes and a tag are to come."""
        self._text, self._trailer = text, TAG
        self._nonce = self._format.nonce(self._cipher.iv, self.number, self._prefix)
        self._aad = self._format.aad(self.number, self._prefix, text)
        self._begin()
        self._opened = True
        if not text:
            self._text_done()

    def _finish(self, end: int, done: list[Record]) -> None:
        """The record in progress is complete."""
        opened = self._opened
        authentic = not opened or self._verify()
        if self._tells:
            tag, kept = self._tag if opened else None, tuple(self._pieces)
            done.append(
                Record(self.number, self._prefix, self._nonce, self._aad, tag, end, authentic, kept)
            )
        self.number = next_number(self.number)
        self._reset()

    def _at_once(
        self,
        nonce: bytes,
        aad: bytes,
        source: memoryview,
        target: memoryview,
        text: int,
        tail: int,
    ) -> bool:
        """Do one record with text from ``text`` to ``tail`` and its tag behind; is it authentic?"""
        raise NotImplementedError

    def _begin(self) -> None:
        """A record begins whose text comes in pieces."""
        raise NotImplementedError

    def _update(self, source: memoryview, target: memoryview) -> None:
        """A piece of its text; ``_text`` bytes were to come before."""
        raise NotImplementedError

    def _text_done(self) -> None:
        """Its text is complete."""

    def _pass_tag(self, source: memoryview, target: memoryview) -> None:
        """A piece of its tag; ``_trailer`` bytes were to come before."""
        raise NotImplementedError

    def _verify(self) -> bool:
        """Is it authentic?"""
        return True


class EncryptStream(RecordStream):
    """Plaintext becomes ciphertext; whatever the stream has in place of a tag is replaced.

    ``keep``: records are told, and name their ciphertext; else ``run`` returns none.

    Large sends cut most records once, and a cipher context for pieces costs more than to encrypt
    a few KiB. So the first piece is encrypted by itself and held; if the second completes the text,
    the whole is encrypted at once. ``settle`` ends the holding.
    """

    __slots__ = ("_context", "_held")
    _context: AEADEncryptionContext | None
    _held: bytes

    def __init__(self, cipher: RecordCipher, number: int, *, keep: bool = False) -> None:
        super().__init__(cipher, number)
        self._keep = self._tells = keep
        self._begin()

    @property
    def held(self) -> int:
        """Bytes of text that are held."""
        return len(self._held)

    def settle(self) -> None:
        """Hold no text: from here on the record in progress has a cipher context."""
        if self._held and self._text:
            self._context = self._cipher.encryptor(self._nonce, self._aad)
            self._context.update(self._held)
        self._held = b""

    def _at_once(
        self,
        nonce: bytes,
        aad: bytes,
        source: memoryview,
        target: memoryview,
        text: int,
        tail: int,
    ) -> bool:
        self._cipher.aead.encrypt_into(nonce, source[text:tail], aad, target[text : tail + TAG])
        return True

    def _begin(self) -> None:
        self._context = None
        self._held = b""

    def _update(self, source: memoryview, target: memoryview) -> None:
        if self._held and len(source) < self._text:
            self.settle()
        if self._context is not None:
            self._context.update_into(source, target)
            return
        start = len(self._held)
        text = self._held + bytes(source)
        sealed = self._cipher.aead.encrypt(self._nonce, text, self._aad)
        target[:] = memoryview(sealed)[start : len(text)]
        if len(source) == self._text:
            self._tag = sealed[-TAG:]
            self._held = b""
        else:
            self._held = text

    def _text_done(self) -> None:
        if self._context is not None:
            self._context.finalize()
            self._tag = self._context.tag
            self._context = None
        elif not self._tag:
            self._tag = self._cipher.aead.encrypt(self._nonce, b"", self._aad)

    def _pass_tag(self, source: memoryview, target: memoryview) -> None:
        at = TAG - self._trailer
        target[:] = self._tag[at : at + len(target)]


class DecryptStream(RecordStream):
    """Ciphertext becomes plaintext; header, explicit nonce and tag stay as they are."""

    __slots__ = ("_context",)
    _context: AEADDecryptionContext

    def _at_once(
        self,
        nonce: bytes,
        aad: bytes,
        source: memoryview,
        target: memoryview,
        text: int,
        tail: int,
    ) -> bool:
        stop = tail + TAG
        target[tail:stop] = source[tail:stop]
        try:
            self._cipher.aead.decrypt_into(nonce, source[text:stop], aad, target[text:tail])
        except InvalidTag:
            return False
        return True

    def _begin(self) -> None:
        self._context = self._cipher.decryptor(self._nonce, self._aad)

    def _update(self, source: memoryview, target: memoryview) -> None:
        self._context.update_into(source, target)

    def _pass_tag(self, source: memoryview, target: memoryview) -> None:
        piece = bytes(source)
        target[:] = piece
        self._tag += piece

    def _verify(self) -> bool:
        try:
            self._context.finalize_with_tag(self._tag)
        except InvalidTag:
            return False
        return True
