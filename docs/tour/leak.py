"""A program that forgets to close: its server has closed long ago, the sockets stay in CLOSE_WAIT."""

import socket
import time

from stage import backend, look, network, paced, process, request

SERVER = ("10.0.9.20", 5432)


def checkout():
    forgotten = []

    def one():
        connection = socket.create_connection(SERVER)
        request(connection)
        forgotten.append(connection)

    paced(25, 18, one)
    time.sleep(200)


network(ports=(32768, 60999))
backend([SERVER], closes_first=True)
process("checkout", checkout)
time.sleep(8)
look("watch 1 5")
look("--by owner")
look("sockets -tp state close-wait | head -5")
time.sleep(62)
look("")
look("--json | jq -c '.warnings[] | {id, long, longest_ms, owners}'")
