# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate says, against the library that knows all of X.509."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils._x509 import (
    CertificateError,
    first_certificate,
    read_certificate,
)

KEY = ec.generate_private_key(ec.SECP256R1())
# Certificates for longer than 2050 have another form of time.
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2049, 12, 31)) | st.datetimes(  # in UTC
    datetime(2050, 1, 1),
    datetime(2126, 1, 1),
)
WORDS = st.text("abcxyz:-é 0189", min_size=1, max_size=30)
DNS_NAMES = st.from_regex(r"[A-Za-z0-9]{1,60}(\.[a-z]{1,9}){0,2}", fullmatch=True)


def made(
    names: list[tuple[x509.ObjectIdentifier, str]],
    start: datetime,
    end: datetime,
    sans: list[x509.GeneralName],
    *,
    critical: bool = False,
) -> str:
    """A PEM certificate with an extension before and after that of the names."""
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 2**150 + 7, start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier(b"12345678"), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME]), WORDS), max_size=3),
    st.tuples(MOMENTS, MOMENTS).map(sorted),
    st.lists(DNS_NAMES, max_size=5),
    st.lists(st.ip_addresses(), max_size=5),
    st.booleans(),
)
def test_it_says_what_the_library_reads(
    names: list[tuple[x509.ObjectIdentifier, str]],
    times: list[datetime],
    dns: list[str],
    addresses: list[object],
    critical: bool,
) -> None:
    start, end = (moment.replace(microsecond=0, tzinfo=timezone.utc) for moment in times)
    sans = [*map(x509.DNSName, dns), *(x509.IPAddress(ip_address(str(address))) for address in addresses)]
    found = read_certificate(made(names, start, end, sans, critical=critical))
    assert (found.not_before, found.not_after) == (start.timestamp(), end.timestamp())
    assert found.sans == [*map(str.lower, dns), *map(str, addresses)]
    short = {NameOID.ORGANIZATION_NAME: "O", NameOID.COMMON_NAME: "CN"}
    assert found.subject == ", ".join(f"{short[kind]} = {text}" for kind, text in names)


ONE = made(
    [(NameOID.COMMON_NAME, "kube-apiserver")],
    datetime(2026, 11, 24, tzinfo=timezone.utc),
    datetime(2027, 11, 24, tzinfo=timezone.utc),
    [x509.DNSName("Master1"), x509.RFC822Name("a@b.c"), x509.IPAddress(ip_address("fd00:253::129"))],
)


def test_names_of_other_kinds_are_left_out() -> None:
    assert read_certificate(ONE).sans == ["master1", "fd00:253::129"]


def test_the_first_certificate_of_a_file_is_taken_and_no_key() -> None:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = KEY.private_bytes(serialization.Encoding.PEM, *form).decode()
    assert first_certificate(f"{key}{ONE}{ONE}") == ONE.strip()
    assert first_certificate(key) == ""


@settings(max_examples=300)
@given(st.data())
def test_what_is_broken_is_said_to_be_no_certificate(data: st.DataObject) -> None:
    lines = ONE.strip().splitlines()
    place = data.draw(st.integers(1, len(lines) - 2))
    lines[place] = data.draw(st.sampled_from(["", "AAAA", lines[place][::-1], lines[place][:-4], "é"]))
    with suppress(CertificateError):  # and nothing else
        read_certificate("\n".join(lines))


def test_a_file_without_a_certificate_is_told() -> None:
    with pytest.raises(CertificateError, match="it holds no certificate"):
        read_certificate(first_certificate("certificate"))
