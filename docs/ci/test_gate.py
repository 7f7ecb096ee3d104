"""The client may open one connection for all its requests, and leaves none behind.

For pytest, or `python3 -m unittest`. Where sockeye is not in the PATH, the variable SOCKEYE says where it is.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

CLIENT = textwrap.dedent(
    """
    import http.client, http.server, threading

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection(*server.server_address)
    for _ in range(20):
        client.request("GET", "/")
        client.getresponse().read()
    client.close()
    server.shutdown()
    server.server_close()
    """
)


def account(program, *rules):
    """Runs a Python program under the gate: exit code, and what it did as sockeye.run/1."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "run.json")
        sockeye = [os.environ.get("SOCKEYE", "sockeye"), "run", "--no-config", "--isolate", *rules]
        command = [*sockeye, "--export-json", str(report), "--", sys.executable, "-c", program]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        assert report.exists(), done.stderr
        return done.returncode, json.loads(report.read_text())


class Gate(unittest.TestCase):
    def test_requests_share_a_connection(self):
        code, run = account(CLIENT, "--max-opens", "1", "--max-leaked", "0")
        self.assertEqual(code, 0, run["broken"])
        self.assertEqual(run["opens"], 1)

    def test_a_lost_keep_alive_is_found(self):
        careless = CLIENT.replace('client.request("GET", "/")', 'client.close(); client.request("GET", "/")')
        code, run = account(careless, "--max-opens", "1")
        self.assertEqual(code, 1)
        self.assertEqual([rule["rule"] for rule in run["broken"]], ["max_opens"])
        self.assertEqual(run["opens"], 20)


if __name__ == "__main__":
    unittest.main()
