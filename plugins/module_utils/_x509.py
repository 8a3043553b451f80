# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dates and names of a certificate, read from its DER form (RFC 5280, X.690): no host needs a program or library for it.

Nothing is verified here: the caller shows what a certificate says, and trusts none of it.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import binascii
import re
import ssl
from calendar import timegm
from collections.abc import Iterator
from ipaddress import ip_address
from time import strptime
from typing import NamedTuple

SEQUENCE, OCTETS, OBJECT, UTC_TIME, TIME = 0x30, 0x04, 0x06, 0x17, 0x18
VERSION, EXTENSIONS, DNS_NAME, IP_ADDRESS = 0xA0, 0xA3, 0x82, 0x87  # tags that have their meaning from their place
SUBJECT_ALT_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17
ATTRIBUTES = {3: "CN", 6: "C", 7: "L", 8: "ST", 10: "O", 11: "OU"}  # the last number of 2.5.4.x
IN_X520 = bytes((0x55, 0x04))  # 2.5.4
FORMS = {UTC_TIME: "%y%m%d%H%M%SZ", TIME: "%Y%m%d%H%M%SZ"}
UTF16 = 0x1E  # BMPString
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class CertificateError(ValueError):
    """What is given is no certificate."""


class Certificate(NamedTuple):
    not_before: int  # seconds since 1970
    not_after: int
    subject: str  # as openssl writes it: "O = system:masters, CN = kubernetes-admin"
    sans: list[str]  # DNS names in lower case and IP addresses in their short form, in the certificate's order


def first_certificate(text: str) -> str:
    """The first certificate of a PEM file, without the keys that may be beside it."""
    found = _PEM.search(text)
    return found[0] if found else ""


def read_certificate(pem: str) -> Certificate:
    """What a PEM certificate says; CertificateError where it is none."""
    if not pem:
        raise CertificateError("it holds no certificate")
    try:
        return _read(ssl.PEM_cert_to_DER_cert(pem.strip()))
    except (ValueError, IndexError, StopIteration, binascii.Error) as error:
        raise CertificateError(f"it cannot be read as a certificate: {error or type(error).__name__}") from error


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise CertificateError("it ends too early")
        yield tag, data[at : at + length]
        at += length


def _only(data: bytes, tag: int) -> bytes:
    """The content of the first element, which has to be of this kind."""
    found, content = next(_parts(data))
    if found != tag:
        raise CertificateError(f"an element of kind {found:#x} stands where {tag:#x} belongs")
    return content


def _read(der: bytes) -> Certificate:
    fields = list(_parts(_only(_only(der, SEQUENCE), SEQUENCE)))
    if fields[0][0] == VERSION:
        fields = fields[1:]
    _serial, _algorithm, _issuer, validity, subject = (content for _tag, content in fields[:5])
    not_before, not_after = (_epoch(tag, content) for tag, content in _parts(validity))
    extensions = next((content for tag, content in fields[5:] if tag == EXTENSIONS), b"")
    return Certificate(not_before, not_after, _subject(subject), _sans(extensions))


def _epoch(tag: int, content: bytes) -> int:
    return timegm(strptime(content.decode("ascii"), FORMS.get(tag, "")))


def _subject(content: bytes) -> str:
    told = []
    for _set, names in _parts(content):
        for _sequence, name in _parts(names):
            (_object, kind), (form, value) = _parts(name)
            known = ATTRIBUTES.get(kind[-1]) if kind[:-1] == IN_X520 else None
            text = value.decode("utf-16-be" if form == UTF16 else "utf-8", "replace")
            told.append(f"{known or kind.hex()} = {text}")
    return ", ".join(told)


def _sans(extensions: bytes) -> list[str]:
    found = []
    for _tag, extension in _parts(_only(extensions, SEQUENCE)) if extensions else ():
        kind, *rest = _parts(extension)
        if kind != (OBJECT, SUBJECT_ALT_NAME):
            continue
        # A mark that it is critical may stand between.
        names = next(content for tag, content in rest if tag == OCTETS)
        for tag, name in _parts(_only(names, SEQUENCE)):
            if tag == DNS_NAME:
                found.append(name.decode("ascii", "replace").lower())
            elif tag == IP_ADDRESS:
                found.append(str(ip_address(name)))
    return found
