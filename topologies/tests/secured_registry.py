"""A registry behind HTTPS that wants to know who asks: passes on to the real one what shows the right Authorization.

usage: secured_registry.py CERTIFICATE KEY TARGET AUTHORIZATION...; prints its port.
"""
import http.server
import ssl
import sys
import urllib.error
import urllib.request

CERTIFICATE, KEY, TARGET, *ACCEPTED = sys.argv[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        if self.headers.get("Authorization") not in ACCEPTED:
            return self.answer(401, "application/json", b'{"error_code": 401, "message": "who are you?"}')
        request = urllib.request.Request(TARGET + self.path, body, method=self.command)
        for name in ("Accept", "Content-Type"):
            if self.headers.get(name):
                request.add_header(name, self.headers[name])
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        self.answer(answer.status, answer.headers["Content-Type"], answer.read())

    do_GET = do_POST = do_PUT = pass_on

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(f"port {server.server_port}", flush=True)
server.serve_forever()
