# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The yardstick's watcher, as such arrangements have it: every 5 s it asks each server in turn, without a timeout.

Runs on a host of the lab: ``python3 failover_prober.py VIP SERVER…``. Any answer counts as healthy. A server that gives
none is taken out of the virtual server, and put back when it answers again. Nothing else is looked after: neither the
route nor the virtual server itself.
"""

from __future__ import annotations

import http.client
import ssl
import subprocess
import sys
import time

PERIOD = 5.0


def healthy(server: str) -> bool:
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(server, 6443, context=unchecked)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def main() -> None:
    vip, *servers = sys.argv[1:]
    at = f"{vip}:6443"
    present = set(servers)
    while True:
        for server in servers:
            good = healthy(server)
            if good and server not in present:
                subprocess.run(["ipvsadm", "-a", "-t", at, "-r", f"{server}:6443", "-m", "-w", "1"], check=False)
                present.add(server)
            elif not good and server in present:
                subprocess.run(["ipvsadm", "-d", "-t", at, "-r", f"{server}:6443"], check=False)
                present.remove(server)
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
