#!/bin/sh
# Calls the server that $1 names at host $2, port $3, with the client that people use for it, and prints what comes of it.
set -eu
here=$(dirname "$0")
case $1 in
postgres)
	psql -w -h "$2" -p "$3" -U app -d postgres -c 'select 1' 2>&1 | grep -o 'no password supplied' || true
	PGPASSWORD=secret psql -h "$2" -p "$3" -U app -d postgres -Atc 'select host(inet_client_addr())'
	;;
mariadb) mariadb --no-defaults -h "$2" -P "$3" -u app -psecret -Ne 'select user()' ;;
redis)
	i=0
	while [ $i -lt 30 ]; do
		echo "set key$i value$i" && echo "get key$i"
		i=$((i + 1))
	done | redis-cli -c -h "$2" -p "$3" | grep -c '^value'
	;;
mosquitto)
	mosquitto_pub -h "$2" -p "$3" -t words -m heard -r
	mosquitto_sub -h "$2" -p "$3" -t words -C 1 -W 5
	;;
nginx | haproxy) curl -sS -m 10 "http://$2:$3/" ;;
vsftpd) # active: the server connects to the client, if the address is the one that it sees
	curl -sSv -m 10 -P - "ftp://$2:$3/zeros" -o /dev/null -w '%{size_download}'
	;;
memcached | rabbitmq | kafka | nats | zookeeper | zookeeper-many) python3 "$here/call.py" "$@" ;;
grpc-python) python3 "$here/grpc_client.py" "$2:$3" ;;
grpc-node) node "$here/grpc_client.js" "$2:$3" ;;
grpc-java) java -XX:TieredStopAtLevel=1 -cp '/opt/jars/*' "$here/GrpcClient.java" "$2:$3" ;;
httpclient) java -XX:TieredStopAtLevel=1 -cp '/opt/jars/*' "$here/HttpClient.java" "http://$2:$3/" ;;
*)
	echo "no client for $1" >&2
	exit 2
	;;
esac
