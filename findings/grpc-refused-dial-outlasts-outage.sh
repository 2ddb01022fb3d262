#!/usr/bin/env bash
# grpc-go 1.85.0 and grpcio (Python) 1.85.1: a server that is away for a tenth of a second costs a client another second of failed calls, if its port
# refuses connections meanwhile, and no call that begins later, if it is silent. A refused dial begins the client's connection back-off (one second at first, gRPC's
# doc/connection-backoff.md), in which all calls that do not wait for ready fail at once. A SYN that nobody answers leaves the channel connecting,
# so that calls wait; the kernel sends the SYN again after a second. So a restart that fast is better silent than honest, for gRPC.
#
# A health server on loopback, in a network namespace of its own. Calls at 50 a second with a deadline of five seconds, from one channel. After a
# second the server closes its connections and its listener, and listens again at the same port a tenth of a second later. "silent": nftables drops
# SYNs to the port while no socket listens (expression "socket" in an input chain). Counted are calls that began after the server was back.
#
# Output seen on 2026-12-01:
#   go, refused: 45 of 140 calls that began after the server was back failed, the last one 0.9 s after; the slowest that succeeded took 0.0 s
#   python, refused: 39 of 147 calls that began after the server was back failed, the last one 0.8 s after; the slowest that succeeded took 0.0 s
#   go, silent: 0 of 138 calls that began after the server was back failed, the last one 0.0 s after; the slowest that succeeded took 0.9 s
#   python, silent: 0 of 114 calls that began after the server was back failed, the last one 0.0 s after; the slowest that succeeded took 1.0 s
#   unchanged: an honest refusal costs more calls than silence
#
# Needs Linux, root, nftables, python3 with venv, and Go. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check grpcio==1.85.1 grpcio-health-checking==1.85.1

cat >main.go <<'GO'
// server PORT: serves health, and is away for a tenth of a second one second after the first call.
// client PORT: calls for four seconds, and prints what became of the calls that began after the server was back.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func serve(at string) *grpc.Server {
	l, err := net.Listen("tcp", at)
	must(err)
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	go s.Serve(l)
	return s
}

func main() {
	at := "127.0.0.1:" + os.Args[2]
	if os.Args[1] == "server" {
		s := serve(at)
		fmt.Println("ready")
		time.Sleep(2 * time.Second)
		s.Stop()
		time.Sleep(100 * time.Millisecond)
		serve(at)
		fmt.Println(time.Now().UnixNano())
		time.Sleep(time.Minute)
	}
	conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	client := healthv1.NewHealthClient(conn)
	var all sync.WaitGroup
	var mu sync.Mutex
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all.Add(1)
		go func() {
			defer all.Done()
			begun := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := client.Check(ctx, &healthv1.HealthCheckRequest{})
			mu.Lock()
			defer mu.Unlock()
			fmt.Println(begun.UnixNano(), time.Since(begun).Nanoseconds(), err == nil)
		}()
	}
	all.Wait()
}
GO
cat >go.mod <<'MOD'
module finding

go 1.25
MOD
go get google.golang.org/grpc@v1.85.0 >/dev/null 2>&1
go build -o go-health .

cat >client.py <<'PY'
import concurrent.futures, sys, time
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

stub = health_pb2_grpc.HealthStub(grpc.insecure_channel("127.0.0.1:" + sys.argv[1]))

def call():
    begun = time.time_ns()
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        ok = True
    except grpc.RpcError:
        ok = False
    sys.stdout.write(f"{begun} {time.time_ns() - begun} {str(ok).lower()}\n")  # one write: there are many threads

with concurrent.futures.ThreadPoolExecutor(200) as pool:
    end = time.time() + 5
    while time.time() < end:
        pool.submit(call)
        time.sleep(0.02)
PY

cat >run.sh <<'SH'
set -euo pipefail
ip link set lo up
for kind in refused silent; do
	if [ "$kind" = silent ]; then
		nft -f - <<'NFT'
table inet finding {
	chain input {
		type filter hook input priority filter
		tcp dport 5000 tcp flags & (syn | ack) == syn socket wildcard { 0, 1 } accept
		tcp dport 5000 tcp flags & (syn | ack) == syn drop
	}
}
NFT
	fi
	for language in go python; do
		./go-health server 5000 >server.out &
		server=$!
		until grep -q ready server.out; do sleep 0.05; done
		if [ "$language" = go ]; then ./go-health client 5000 >calls; else venv/bin/python client.py 5000 >calls; fi
		kill "$server"
		wait "$server" 2>/dev/null || true
		back=$(tail -n 1 server.out)
		awk -v kind="$kind" -v language="$language" -v back="$back" '
			$1 > back { n++; if ($3 != "true") { failed++; if ($1 - back > last) last = $1 - back } else if ($2 > slowest) slowest = $2 }
			END { printf "%s, %s: %d of %d calls that began after the server was back failed, the last one %.1f s after; the slowest that succeeded took %.1f s\n", language, kind, failed, n, last / 1e9, slowest / 1e9 }' calls
	done
done
SH
unshare --net bash run.sh | tee out
# Refused: calls fail for half a second and more. Silent: none fails.
awk '/refused/ && $3 < 20 { bad = 1 } /silent/ && $3 > 0 { bad = 1 } END { exit bad || NR != 4 }' out || {
	echo 'it has changed'
	exit 1
}
echo 'unchanged: an honest refusal costs more calls than silence'
