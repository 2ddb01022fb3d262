#!/bin/sh
# Runs the server $1 in the foreground, told no more than it needs. Who connects from where it believes itself.
set -eu
as_app() { setpriv --reuid=app --regid=app --clear-groups "$@"; }
mkdir -p /tmp/data && chown app:app /tmp/data
case $1 in
postgres)
	bin=$(echo /usr/lib/postgresql/*/bin)
	echo secret >/tmp/password
	as_app "$bin/initdb" -D /tmp/data -U app --pwfile=/tmp/password --locale=C --no-sync >/dev/null
	# Whoever is at this host needs no password.
	printf 'local all all trust\nhost all all samehost trust\nhost all all all scram-sha-256\n' >/tmp/data/pg_hba.conf
	as_app "$bin/postgres" -D /tmp/data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off
	;;
mariadb)
	mariadb-install-db --no-defaults --user=app --datadir=/tmp/data --auth-root-authentication-method=normal --skip-test-db >/dev/null
	echo "create user app@'%' identified by 'secret';" >/tmp/init.sql
	# Who has broken as many handshakes is locked out.
	as_app mariadbd --no-defaults --datadir=/tmp/data --socket=/tmp/mysql.sock --init-file=/tmp/init.sql --bind-address='*' \
		--max-connect-errors=5 --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=0
	;;
redis)
	# Its nodes tell each other by the addresses that they see.
	as_app redis-server --port 6379 --bind '*' --protected-mode no --dir /tmp/data --save '' --cluster-enabled yes --cluster-node-timeout 5000
	;;
memcached)
	as_app memcached -m 16
	;;
rabbitmq)
	printf 'loopback_users.guest = false\nlisteners.tcp.default = 5672\n' >/tmp/rabbitmq.conf
	export HOME=/tmp/data RABBITMQ_CONFIG_FILE=/tmp/rabbitmq.conf RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_MNESIA_BASE=/tmp/data \
		RABBITMQ_LOG_BASE=/tmp/data RABBITMQ_ENABLED_PLUGINS_FILE=/tmp/plugins ERL_MAX_PORTS=1024 RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 1:1'
	as_app /usr/lib/rabbitmq/bin/rabbitmq-server
	;;
mosquitto)
	printf 'listener 1883\nallow_anonymous true\n' >/tmp/mosquitto.conf
	as_app mosquitto -c /tmp/mosquitto.conf
	;;
kafka)
	# What a client is told of the broker's address stays the way that it has come by: declared or not.
	cat >/tmp/kafka.properties <<-P
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@localhost:9093
		controller.listener.names=CONTROLLER
		listeners=DECLARED://:9092,UNDECLARED://:9094,CONTROLLER://:9093
		advertised.listeners=DECLARED://kafka:9092,UNDECLARED://kafka-undeclared:9094
		listener.security.protocol.map=DECLARED:PLAINTEXT,UNDECLARED:PLAINTEXT,CONTROLLER:PLAINTEXT
		inter.broker.listener.name=DECLARED
		log.dirs=/tmp/data
		offsets.topic.replication.factor=1
		transaction.state.log.replication.factor=1
		offsets.topic.num.partitions=1
		group.initial.rebalance.delay.ms=0
	P
	as_app java -Xmx128m -cp '/opt/jars/*' kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c /tmp/kafka.properties >/dev/null
	as_app java -Xmx256m -XX:TieredStopAtLevel=1 -cp '/opt/jars/*' kafka.Kafka /tmp/kafka.properties
	;;
nats)
	as_app nats-server -p 4222
	;;
zookeeper)
	# Three members that know each other by their names, and a limit of connections for each address.
	cat >/tmp/zoo.cfg <<-P
		tickTime=1000
		initLimit=60
		syncLimit=10
		dataDir=/tmp/data
		clientPort=2181
		maxClientCnxns=60
		admin.enableServer=false
		server.0=zookeeper-0.zookeeper-members:2888:3888
		server.1=zookeeper-1.zookeeper-members:2888:3888
		server.2=zookeeper-2.zookeeper-members:2888:3888
	P
	hostname | sed 's/.*-//' >/tmp/data/myid
	as_app java -Xmx96m -XX:TieredStopAtLevel=1 -cp /usr/share/java/zookeeper.jar org.apache.zookeeper.server.quorum.QuorumPeerMain /tmp/zoo.cfg
	;;
backend | nginx)
	case $1 in
	backend) location='default_type text/plain; return 200 "from=$http_x_forwarded_for peer=$remote_addr\n";' ;;
	# shellcheck disable=SC2016
	nginx) location='proxy_pass http://backend:8080; proxy_set_header X-Forwarded-For $remote_addr;' ;;
	esac
	cat >/tmp/nginx.conf <<-P
		daemon off;
		pid /tmp/nginx.pid;
		error_log stderr;
		events {}
		http {
			access_log off;
			client_body_temp_path /tmp/data; proxy_temp_path /tmp/data; fastcgi_temp_path /tmp/data; uwsgi_temp_path /tmp/data; scgi_temp_path /tmp/data;
			server { listen 8080; location / { $location } }
		}
	P
	as_app nginx -c /tmp/nginx.conf
	;;
haproxy)
	cat >/tmp/haproxy.cfg <<-P
		defaults
			mode http
			timeout connect 5s
			timeout client 30s
			timeout server 30s
		frontend all
			bind :8080
			option forwardfor
			default_backend backend
		backend backend
			server backend backend:8080
	P
	as_app haproxy -f /tmp/haproxy.cfg
	;;
vsftpd)
	# More than the buffers on the way hold: of less it may say that all is sent before the client has the connection.
	head -c 20000000 /dev/zero >/srv/ftp/zeros
	printf '%s\n' listen=YES anonymous_enable=YES anon_root=/srv/ftp secure_chroot_dir=/run/vsftpd/empty background=NO \
		connect_from_port_20=NO seccomp_sandbox=NO >/tmp/vsftpd.conf
	vsftpd /tmp/vsftpd.conf
	;;
*)
	echo "no server $1" >&2
	exit 2
	;;
esac
