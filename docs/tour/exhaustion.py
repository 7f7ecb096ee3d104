"""A proxy that is about to run out of ports towards one of its two backends."""

import socket
import time

from stage import backend, look, network, paced, process, request

BUSY, CALM = ("10.0.9.12", 8080), ("10.0.9.13", 8080)


def proxy():
    """Keeps 40 connections to each, and opens one for every other request to the busy one."""
    kept = [socket.create_connection(address) for address in [BUSY, CALM] * 40]

    def short_one():
        with socket.create_connection(BUSY) as connection:
            request(connection)

    paced(120, 100, short_one)
    print(len(kept))


network(ports=(32768, 36767))
backend([BUSY, CALM])
process("proxy", proxy)
time.sleep(17)
look("")
look("headroom 10.0.9.12:8080 --for 3s")
look("--by owner")
