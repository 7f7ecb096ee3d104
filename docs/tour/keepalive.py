"""The same requests, before and after a release that lost its keep-alive."""

import socket
import time

from stage import backend, look, network, paced, process, request

SERVER = ("10.0.9.30", 6379)


def api():
    kept = [socket.create_connection(SERVER) for _ in range(8)]
    turn = iter(range(10**9))
    paced(200, 9, lambda: request(kept[next(turn) % 8]))
    for connection in kept:
        connection.close()

    def short_one():
        with socket.create_connection(SERVER) as connection:
            request(connection)

    paced(200, 60, short_one)


network(ports=(32768, 60999))
backend([SERVER])
process("api", api)
time.sleep(5)
look("watch 1 9")
look("lifetimes --for 5s")
look("headroom 10.0.9.30:6379 --for 3s")
