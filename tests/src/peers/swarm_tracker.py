"""An HTTP tracker for tests/bench-swarm: swarm_tracker.py HOST:PORT. Every announce is answered with all other peers, at once."""
import socket, struct, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

swarms = {}


class Announce(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        # Values are bytes: Latin-1 keeps every one.
        query = parse_qs(urlsplit(self.path).query, encoding="latin-1")
        swarm = swarms.setdefault(query["info_hash"][0], {})
        caller = (self.client_address[0], int(query["port"][0]))
        if query.get("event") == ["stopped"]:
            swarm.pop(caller, None)
        else:
            swarm[caller] = True
        others = [peer for peer in list(swarm) if peer != caller]
        compact = b"".join(socket.inet_aton(host) + struct.pack(">H", port) for host, port in others)
        body = b"d8:intervali30e12:min intervali5e5:peers%d:%se" % (len(compact), compact)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


host, port = sys.argv[1].rsplit(":", 1)
ThreadingHTTPServer((host, int(port)), Announce).serve_forever()
