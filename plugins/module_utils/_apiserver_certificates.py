# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Looks at the API servers' certificates as a client would, once, and says which of them clients would refuse.

The guard of the API server's address runs it once a minute: keepalived looks at no certificate. It is a program of its own so
that what TLS takes of memory is given back when it ends.

Standard library only, and no import of the collection.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SECONDS = 5.0  # for each server


def troubles(settings: Mapping[str, Any], servers: Iterable[str]) -> dict[str, str]:
    """Server to what is wrong with its certificate. One that does not answer is keepalived's business."""
    context = ssl.create_default_context(cafile=str(settings["ca"]))
    context.hostname_checks_common_name = False  # as Kubernetes' own clients, which look at the alternative names only
    found = {}
    for server in servers:
        try:
            with socket.create_connection((server, settings["port"]), SECONDS, (settings["source"], 0)) as plain:
                with context.wrap_socket(plain, server_hostname=settings["name"]):
                    pass
        except ssl.SSLCertVerificationError as error:
            found[server] = error.verify_message
        except OSError:
            continue
    return found


def main(words: Sequence[str]) -> None:
    """The guard's configuration, the VIP, then addresses of servers; prints JSON."""
    with open(words[1], encoding="utf-8") as stream:
        settings = json.load(stream)
    way = next(way for way in settings["ways"] if way["vip"] == words[2])
    sys.stdout.write(json.dumps(troubles({**settings, **way}, words[3:])))


if __name__ == "__main__":
    main(sys.argv)
