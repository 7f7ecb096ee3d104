"""What the scripts of the tour share: a private network, a server, and the commands that look at it.

The network is 10.0.9.0/24, reached from 10.0.0.7, all of it on the loopback interface of a namespace of its own: run each script
with `unshare -rn python3 SCRIPT [path of sockeye]` and nothing of this host is touched.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

SOCKEYE = sys.argv[1] if len(sys.argv) > 1 else "sockeye"
CONFIG = {**os.environ, "SOCKEYE_CONFIG": ""}


def network(ports):
    """Brings the network up, with this range of ephemeral ports."""
    if namespace_of("self") == namespace_of("1"):
        sys.exit("not in a network namespace of its own: unshare -rn python3 " + sys.argv[0])
    for command in (
        "ip link set lo up",
        "ip address add 10.0.0.7/32 dev lo",
        "ip route add local 10.0.9.0/24 dev lo src 10.0.0.7",
    ):
        subprocess.run(command.split(), check=True)
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write("%d %d" % ports)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def namespace_of(process):
    try:
        return os.readlink("/proc/%s/ns/net" % process)
    except PermissionError:  # of another user's process, which is not in ours
        return None


def called(name):
    """Names this process as ps and sockeye show it."""
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def process(name, work, *arguments):
    """Starts a process that ends with this one."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            called(name)
            watch = threading.Thread(target=lambda: end_with(parent), daemon=True)
            watch.start()
            work(*arguments)
        finally:
            os._exit(0)
    return pid


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def backend(addresses, closes_first=False):
    """A server that answers each request with a few bytes; it may also close after its answer."""
    listening = []
    for address in addresses:
        listener = socket.create_server(address, backlog=1024)
        listening.append(listener)

    def serve(connection):
        while connection.recv(4096):
            connection.sendall(b"x" * 600)
            if closes_first:
                break
        connection.close()

    def accept(listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def work():
        threading.stack_size(64 * 1024)
        for listener in listening:
            threading.Thread(target=accept, args=(listener,), daemon=True).start()
        signal.pause()

    process("backend", work)
    for listener in listening:
        listener.close()


def request(connection):
    connection.sendall(b"GET")
    left = 600
    while left:
        left -= len(connection.recv(left)) or left


def paced(per_second, seconds, work):
    """Calls work so often for so long."""
    began = time.monotonic()
    for call in range(int(per_second * seconds)):
        pause = began + call / per_second - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        work()


def look(arguments):
    """Runs sockeye as if typed here, and shows both."""
    print("$ sockeye " + arguments, flush=True)
    command = ["bash", "-c", '"$0" ' + arguments, SOCKEYE]
    subprocess.run(command, env=CONFIG, stdin=subprocess.DEVNULL)
    print(flush=True)
