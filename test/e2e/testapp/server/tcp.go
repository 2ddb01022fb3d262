package server

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	mathbig "math/big"
	"net"
	"net/http"
	"strings"
	"time"
)

// connTimeout is how long a connection may be silent.
const connTimeout = 30 * time.Second

func (s *Server) serveTCP(handle func(net.Conn, string)) func(net.Listener) error {
	return func(lis net.Listener) error {
		for {
			c, err := lis.Accept()
			if err != nil {
				return err
			}
			s.executed.Add(1)
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(connTimeout))
				handle(c, s.opts.Pod)
			}()
		}
	}
}

// MySQLGreeting is the start of a MySQL 8 handshake packet: length, sequence 0, protocol 10, version.
// The client sends nothing before it.
const MySQLGreeting = "\x4a\x00\x00\x00\x0a8.0.36\x00"

func mysql(c net.Conn, pod string) {
	if _, err := io.WriteString(c, MySQLGreeting); err != nil {
		return
	}
	echoLines(c, pod)
}

// echoLines answers each line with the pod's name and the line.
func echoLines(c net.Conn, pod string) {
	for in := bufio.NewScanner(c); in.Scan(); {
		_ = c.SetDeadline(time.Now().Add(connTimeout))
		if _, err := fmt.Fprintf(c, "%s %s\n", pod, in.Text()); err != nil {
			return
		}
	}
}

// smtp speaks enough of RFC 5321 for EHLO and QUIT.
func smtp(c net.Conn, pod string) {
	say := func(format string, args ...any) bool {
		_, err := fmt.Fprintf(c, format+"\r\n", args...)
		return err == nil
	}
	if !say("220 test ESMTP") {
		return
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		verb, _, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "EHLO":
			say("250 %s", pod)
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 not implemented")
		}
	}
}

func (s *Server) serveTLS(lis net.Listener) error {
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.httpHandler()}
	// HTTP/1.1 only: the port stands for "TLS that the mesh must not look into".
	return srv.Serve(tls.NewListener(lis, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: mathbig.NewInt(1),
		Subject:      pkix.Name{CommonName: "testapp"},
		DNSNames:     []string{"testapp"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (s *Server) serveUDP(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(s.opts.Pod+" "+string(buf[:n])), from)
	}
}
