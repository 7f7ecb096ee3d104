"""A program that binds its address before it connects, as a proxy with a source address does: each port is lost for everybody."""

import socket
import time

from stage import backend, look, network, process

SERVERS = [("10.0.9.40", 443), ("10.0.9.41", 443)]


def gateway():
    kept = []
    for turn in range(600):
        connection = socket.socket()
        connection.bind(("10.0.0.7", 0))
        connection.connect(SERVERS[turn % 2])
        kept.append(connection)
    time.sleep(60)


def browser():
    """Leaves the choice of the port to connect()."""
    kept = [socket.create_connection(SERVERS[0]) for _ in range(150)]
    time.sleep(60)
    print(len(kept))


network(ports=(40000, 41999))
backend(SERVERS)
process("gateway", gateway)
process("browser", browser)
time.sleep(3)
look("")
look("ports --from 10.0.0.7 --to 10.0.9.40:443")
look("headroom 10.0.9.40:443 --probe")
look("--by owner")
