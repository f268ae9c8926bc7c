"""A small OpenAI-compatible server on a local port, for tests: `with Server(answer) as server: ... server.url`.

answer: a function of (request body, number of the call) that returns text (the content), a dict (the whole body), bytes (sent as
they are), or (status, headers, body). requests: (path, headers in lower case, body) of every call. peak: most calls at once.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(content, prompt=10, completed=5, **message):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed},
    }


class Server:
    def __init__(self, answer, delay=0.0):
        self.answer, self.delay = answer, delay
        self.requests, self.now, self.peak = [], 0, 0
        self._lock = threading.Lock()

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer._handle(self)

            def log_message(self, *args):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # the client went away
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *args):
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append((handler.path, {k.lower(): v for k, v in handler.headers.items()}, body))
            self.now += 1
            self.peak = max(self.peak, self.now)
        try:
            time.sleep(self.delay)
            found = self.answer(body, number)
        finally:
            with self._lock:
                self.now -= 1
        status, headers, found = found if isinstance(found, tuple) else (200, {}, found)
        if isinstance(found, str):
            found = completion(found)
        stream = found if hasattr(found, "__next__") else None
        data = b"" if stream else found if isinstance(found, bytes) else json.dumps(found).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        for key, value in headers.items():
            handler.send_header(key, value)
        if stream:
            handler.send_header("Connection", "close")
        else:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        for chunk in stream or ():
            handler.wfile.write(chunk)
            handler.wfile.flush()
        if stream:
            handler.close_connection = True
